package data

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"jambalaya/data/source"
	"jambalaya/data/tokenizer"
)

const bpePrefix = "bpe-"

// CheckTokenizer checks the form of a tokenizer's name, as in Config.Tokenizer.
func CheckTokenizer(name string) error {
	for _, known := range tokenizer.Names() {
		if name == known {
			return nil
		}
	}
	if strings.HasSuffix(name, ".json") {
		return nil
	}
	if strings.HasPrefix(name, bpePrefix) {
		_, err := trainedSize(name)
		return err
	}
	return fmt.Errorf("%w %q: choose %s, bpe-N or a file that ends in .json", tokenizer.ErrUnknown, name, strings.Join(tokenizer.Names(), ", "))
}

// trainedSize is N of bpe-N.
func trainedSize(name string) (int, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(name, bpePrefix))
	if err != nil || n < 258 || n > 1<<20 {
		return 0, fmt.Errorf("%w %q: write bpe-N with N tokens between 258 and %d", tokenizer.ErrUnknown, name, 1<<20)
	}
	return n, nil
}

// OpenTokenizer returns the tokenizer of a name, as in Config.Tokenizer: built in,
// of a file, or trained on the sources.
func OpenTokenizer(ctx context.Context, name string, sources []*source.Source, progress func(Progress)) (tokenizer.Tokenizer, error) {
	switch {
	case strings.HasSuffix(name, ".json"):
		return tokenizer.Load(name)
	case !strings.HasPrefix(name, bpePrefix):
		return tokenizer.Named(name)
	}
	size, err := trainedSize(name)
	if err != nil {
		return nil, err
	}
	return trainTokenizer(ctx, sources, size, progress)
}

// trainingBytes bounds the text that a vocabulary is trained on.
const trainingBytes = 128 << 20

// trainTokenizer trains a byte-pair vocabulary on the documents of the sources that
// are not held out; of more than 128 MB, on every so many-th.
func trainTokenizer(ctx context.Context, sources []*source.Source, vocabSize int, progress func(Progress)) (tokenizer.Tokenizer, error) {
	total := int64(0)
	for _, src := range sources {
		total += src.Size()
	}
	every := int(total/trainingBytes) + 1
	trainer := tokenizer.NewTrainer()
	n := 0
	for _, src := range sources {
		for doc, err := range src.Documents() {
			if err != nil {
				return nil, err
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if doc.HeldOut {
				continue
			}
			if n%every == 0 {
				trainer.Add(doc.Text)
			}
			n++
			if progress != nil {
				progress(Progress{src.Name(), "train tokenizer", doc.Read, src.Size()})
			}
		}
	}
	bpe, err := trainer.Train(vocabSize)
	if err != nil {
		return nil, err // a nil *BPE is no nil Tokenizer
	}
	return bpe, nil
}
