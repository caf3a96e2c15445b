package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Peers are the processes that save one checkpoint together, each its part of the
// tensors into a directory that all of them see.
type Peers interface {
	// Rank is this process's number of Size.
	Rank() int
	Size() int
	// Gather returns the message of every process, by rank. All call it in the same
	// order; an error means that they do not work together any more.
	Gather(what string, message []byte) ([][]byte, error)
}

// alone is a process without peers.
type alone struct{}

func (alone) Rank() int                                         { return 0 }
func (alone) Size() int                                         { return 1 }
func (alone) Gather(_ string, message []byte) ([][]byte, error) { return [][]byte{message}, nil }

// written is what a process says of its part of a checkpoint.
type written struct {
	Files []FileSum
	Index Index
}

// outcome is what rank 0 says of the checkpoint that all have written.
type outcome struct {
	Bytes   int64
	Problem string // why there is none
	Fenced  bool   // the problem is ErrFenced
}

func (o outcome) err() error {
	switch {
	case o.Problem == "":
		return nil
	case o.Fenced:
		return fmt.Errorf("rank 0: %w: %s", ErrFenced, o.Problem)
	}
	return fmt.Errorf("rank 0: %s", o.Problem)
}

// gather runs f, which fills in what this process says, and returns what each said.
// An error of one is an error of all.
func gather[T any](p Peers, what string, f func(*T) error) ([]T, error) {
	type message struct {
		Says  T
		Error string
	}
	var mine message
	err := f(&mine.Says)
	if p.Size() == 1 {
		return []T{mine.Says}, err
	}
	if err != nil {
		mine.Error = err.Error()
	}
	text, jsonErr := json.Marshal(mine)
	if jsonErr != nil {
		return nil, errors.Join(err, jsonErr)
	}
	texts, gatherErr := p.Gather(what, text)
	if err != nil || gatherErr != nil {
		return nil, errors.Join(err, gatherErr)
	}
	said := make([]T, len(texts))
	for rank, text := range texts {
		var m message
		if err := json.Unmarshal(text, &m); err != nil {
			return nil, fmt.Errorf("%s: message of rank %d: %w", what, rank, err)
		}
		if m.Error != "" {
			return nil, fmt.Errorf("rank %d: %s", rank, m.Error)
		}
		said[rank] = m.Says
	}
	return said, nil
}
