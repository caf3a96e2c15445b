// Package recall generates synthetic tasks that can only be solved by looking
// back: what tells attention from a recurrent state, where the loss on text barely
// does.
//
//	g, err := recall.New(tok)
//	err = g.Write(fsys, "recall-64", recall.Options{Length: 64, Documents: 10_000, Seed: 1}) // to learn from
//	p := g.Problem(recall.MQAR, 128, prng.New(7, "evaluation"))                                // to measure
//
// # The tasks
//
// A problem has a fixed number of tokens: the end of the text before it, a marker
// of the task, and then
//
//   - mqar, multi-query associative recall (Arora et al. 2023, arXiv 2312.04927):
//     pairs of a key and a value, filler, then all keys again in another order; the value
//     after each is the answer.
//   - induction, induction heads (Olsson et al. 2022, arXiv 2209.11895, in the form
//     of Gu and Dao 2023, arXiv 2312.00752): random letters, among which a trigger comes up
//     now and then, always with the same letter after it, which is the answer each time
//     but the first.
//   - copying (Jelassi et al. 2024, arXiv 2402.01032): random letters, a separator, the
//     same letters again, which are the answers.
//
// Symbols are the tokens of the bytes from 128 on, which plain English and source
// text hardly has; so any tokenizer with a token for each byte will do.
//
// # Invariants
//
// A problem is a pure function of the task, the length and the generator of random
// numbers, and a data set one of its options and the tokenizer. Only answers are
// learnt: the loss mask is 1 for them and 0 for the rest. Documents are as long as
// Options.Length, so that where it divides the length of a model's sequences, none is
// ever cut.
//
// # Failures
//
// ErrTokenizer marks a tokenizer without tokens for single bytes, ErrLength a length
// too short for a task.
package recall
