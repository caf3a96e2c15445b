// Package shard stores tokenized documents in Arrow IPC files and reads them back
// without copying.
//
// A data set is a folder: shards such as train-00000.arrow, tokenizer.json if the
// tokenizer is a trained one, and manifest.json, which names them all.
//
//	w, err := shard.Create(fsys, "corpus", shard.Options{Tokenizer: tok})
//	err = w.Add(shard.Train, tokens, nil, len(text)) // a document: EndOfText, then its text
//	manifest, err := w.Commit()
//
//	set, err := shard.Open("runs/data/corpus")
//	row := set.Split(shard.Train).Row(i) // a view of the mapped file
//
// The schema of a shard is tokens: list<uint16|uint32>, a row a document, and, where
// some tokens are not to be learnt, loss_mask: list<uint8> beside it (1 learn, 0 do
// not). Tools that read Arrow read these files.
//
// # Invariants
//
// Each row begins with EndOfText, which occurs nowhere else unless the input was
// tokenized elsewhere. Rows stand in the order in which they were added; the same
// rows and options give the same bytes. The folder appears under its name complete
// or not at all: everything is written and synced under a temporary name, the
// manifest last, then renamed.
//
// Reading believes nothing: the manifest carries its own SHA-256 and those of the
// files, a file's is compared before a byte of it is parsed, and the parser checks
// every offset and token, so that views handed out are in bounds. The Arrow library
// writes files but never parses one: it trusts counts that it reads. The comparison
// happens once a process for a file of the same size and time.
//
// Views stay valid until Close. A file that another program cuts short while it is
// mapped ends the process (SIGBUS): replace data sets by renaming.
//
// # Failures
//
// Errors are one line: the file, what is wrong, what to do. ErrManifest and
// ErrShard mark damage, ErrEmpty a data set without a document, ErrToken a token
// outside the vocabulary, ErrExists a folder that is already there. A failed or
// abandoned write leaves nothing behind but, after a crash, a folder whose name
// begins with TempPrefix.
package shard
