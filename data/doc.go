// Package data brings text to a model: sharded once, then read in an order that a
// seed decides, without end, with one number as its cursor.
//
//	corpus, err := data.Open(ctx, data.Default(), progress) // shards on first use
//	defer corpus.Close()
//	index, err := corpus.Index(seed)
//	loader, err := data.NewLoader(index, data.LoaderOptions{Rows: 8, Start: cursor})
//	defer loader.Close()
//	var batch data.Batch
//	for loader.Next(ctx, &batch) == nil {
//		train(batch.Inputs, batch.Targets, batch.Docs)
//		cursor += 8
//	}
//
//	held, err := corpus.Evaluation(100_000)
//	for batch := range held.Batches(8) { … } // bits a byte: nats / ln 2 / held.Bytes()
//
// A document is a row of tokens: EndOfText, then its text. A source is the endless
// stream of its documents, shuffled anew each epoch and cut into windows of L+1
// tokens, L apart, so that each token of an epoch is a target once; a document's last
// token has the next one's EndOfText as its target, from which a model learns to
// stop. A sample is a window; an epoch's windows are dealt out in a random order, as
// neighbours resemble each other. Docs tells the positions of one document from
// those of the next. Samples of several sources take turns by weight (mix).
//
// # Invariants
//
// Sample k is a pure function of the data sets, the weights, the seed and L: not of
// the number of rows, ranks, cores or of what was read before. Index.Hash identifies
// all of it; a checkpoint that stores the hash and k resumes exactly. After any
// number of samples each source has had its share to within one sample.
//
// A corpus, an index and an evaluation may be used by several goroutines at once; a
// loader by one.
//
// # Failures
//
// Errors are one line: what, where, what to do. IsConfig tells those of the
// configuration or of its input from those of files and of the machine. A folder
// that was not completed is replaced; a damaged one is reported, not used.
package data
