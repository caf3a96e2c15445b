// Package tokenizer turns text into token ids and back.
//
//	tok, err := tokenizer.Named("bytes")          // or r50k_base, p50k_base, cl100k_base, o200k_base
//	tok, err := tokenizer.Load("tokenizer.json")  // a byte-level BPE trained before
//
//	trainer := tokenizer.NewTrainer()
//	trainer.Add(text)
//	bpe, err := trainer.Train(8192)
//
// Every tokenizer is byte-level: any bytes encode, valid UTF-8 or not, and decode
// to exactly themselves. One id, EndOfText, separates documents; Encode never
// produces it, and it decodes to nothing.
//
// # Invariants
//
// Encode appends to its destination and is a pure function of the text. Hash is the
// SHA-256 of all that decides ids, so that two tokenizers with one hash are the same.
// All methods may be used by several goroutines at once.
//
// # Failures
//
// A damaged or hostile file gives an error that matches ErrFile and says why; an
// unknown name one that matches ErrUnknown. Ids outside the vocabulary decode to
// nothing. Nothing panics on any input.
package tokenizer
