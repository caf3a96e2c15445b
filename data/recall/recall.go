package recall

import (
	"errors"
	"fmt"
	"slices"

	"jambalaya/data/tokenizer"
	"jambalaya/internal/prng"
)

var (
	// ErrTokenizer marks a tokenizer that lacks tokens for single bytes.
	ErrTokenizer = errors.New("recall: the tokenizer has no token for each byte")
	// ErrLength marks problems too short to ask anything.
	ErrLength = errors.New("recall: the problems are too short")
)

// Task names a task.
type Task string

const (
	MQAR      Task = "mqar"
	Induction Task = "induction"
	Copying   Task = "copying"
)

// Tasks lists all tasks.
func Tasks() []Task { return []Task{MQAR, Induction, Copying} }

// MinLength is the shortest problem that asks something in every task.
const MinLength = 16

// The alphabets, as ranges of symbols.
const (
	keys    = 0 // of mqar
	values  = 32
	letters = 64 // of induction, and filler
	trigger = 80
	markers = 81 // one a task
	divider = 84
	symbols = 85

	alphabet     = 32 // keys, values
	letterCount  = 16
	firstByte    = 128
	triggerEvery = 8 // letters between two triggers, on average
)

// Chance is the share of answers that are right without looking back further than
// the marker: one in the size of the alphabet. In mqar, knowing which values there are
// in the problem, but not whose, comes to one in the number of pairs (Pairs).
func (t Task) Chance() float64 {
	if t == Induction {
		return 1.0 / letterCount
	}
	return 1.0 / alphabet
}

// Pairs is the number of keys in a problem of mqar.
func Pairs(length int) int { return min((length-2)/4, alphabet) }

// Problem is one problem.
type Problem struct {
	Tokens []uint32 // the first is the end of the text before
	Answer []uint8  // 1 for each token that follows from those before it, else 0
}

// Generator makes problems from the tokens of one tokenizer.
type Generator struct {
	tok   tokenizer.Tokenizer
	token [symbols]uint32
}

// New returns a generator.
func New(tok tokenizer.Tokenizer) (*Generator, error) {
	g := &Generator{tok: tok}
	for i := range g.token {
		ids := tok.Encode(nil, []byte{byte(firstByte + i)})
		if len(ids) != 1 {
			return nil, fmt.Errorf("%w: %s", ErrTokenizer, tok.ID())
		}
		g.token[i] = ids[0]
	}
	return g, nil
}

// Problem makes a problem of length tokens, at least MinLength.
func (g *Generator) Problem(task Task, length int, r *prng.Rand) Problem {
	w := &writer{g: g, length: length}
	w.tokens = append(w.tokens, g.tok.EndOfText())
	w.answer = append(w.answer, 0)
	w.add(markers+slices.Index(Tasks(), task), 0)
	switch task {
	case MQAR:
		w.mqar(r)
	case Induction:
		w.induction(r)
	case Copying:
		w.copying(r)
	}
	return Problem{Tokens: w.tokens, Answer: w.answer}
}

// writer is a problem in the making.
type writer struct {
	g      *Generator
	length int
	tokens []uint32
	answer []uint8
}

func (w *writer) add(symbol int, answer uint8) {
	w.tokens = append(w.tokens, w.g.token[symbol])
	w.answer = append(w.answer, answer)
}

func (w *writer) left() int { return w.length - len(w.tokens) }

// filler adds letters until so many tokens are left.
func (w *writer) filler(left int, r *prng.Rand) {
	for w.left() > left {
		w.add(letters+r.IntN(letterCount), 0)
	}
}

func (w *writer) mqar(r *prng.Rand) {
	n := Pairs(w.length)
	key := r.Perm(alphabet)[:n]
	value := make([]int, n)
	for i := range value {
		value[i] = r.IntN(alphabet)
		w.add(keys+key[i], 0)
		w.add(values+value[i], 0)
	}
	w.filler(2*n, r)
	for _, i := range r.Perm(n) {
		w.add(keys+key[i], 0)
		w.add(values+value[i], 1)
	}
}

func (w *writer) induction(r *prng.Rand) {
	follower := letters + r.IntN(letterCount)
	seen := uint8(0)
	ask := func() {
		w.add(trigger, 0)
		w.add(follower, seen)
		seen = 1
	}
	first := r.IntN(w.left() / 2)
	for w.left() > 3 {
		if first == 0 || first < 0 && r.IntN(triggerEvery) == 0 {
			ask()
		} else {
			w.add(letters+r.IntN(letterCount), 0)
		}
		first--
	}
	w.filler(2, r)
	ask()
}

func (w *writer) copying(r *prng.Rand) {
	text := make([]int, (w.left()-1)/2)
	w.filler(2*len(text)+1, r)
	for i := range text {
		text[i] = values + r.IntN(alphabet)
		w.add(text[i], 0)
	}
	w.add(divider, 0)
	for _, s := range text {
		w.add(s, 1)
	}
}
