package data

import (
	"context"
	"errors"
	"slices"
	"testing"
)

// TestLoaderRanks: ranks and batch sizes cut the same samples in other ways.
func TestLoaderRanks(t *testing.T) {
	t.Parallel()
	x := openIndex(t, openCorpus(t, testConfig(t, 16, writeTree(t, corpusFiles(150, 1)))), 3)
	for _, c := range []struct{ ranks, rows int }{{1, 1}, {1, 8}, {4, 2}, {2, 3}} {
		for rank := range c.ranks {
			const cursor = 50
			l, err := NewLoader(x, LoaderOptions{Rows: c.rows, Start: cursor + int64(rank*c.rows), Stride: int64(c.ranks * c.rows), Prefetch: 3})
			if err != nil {
				t.Fatal(err)
			}
			var b Batch
			for step := range 20 {
				if err := l.Next(context.Background(), &b); err != nil {
					t.Fatal(err)
				}
				first := int64(cursor + (step*c.ranks+rank)*c.rows)
				if b.First != first || len(b.Inputs) != c.rows*16 {
					t.Fatalf("step %d begins at %d, want %d", step, b.First, first)
				}
				for r := range c.rows {
					want := sample(x, first+int64(r))
					at := r * 16
					if !slices.Equal(b.Inputs[at:at+16], want.Inputs) || !slices.Equal(b.Targets[at:at+16], want.Targets) ||
						!slices.Equal(b.Docs[at:at+16], want.Docs) {
						t.Fatalf("step %d: row %d is not sample %d", step, r, first+int64(r))
					}
				}
			}
			l.Close()
			l.Close()
			if err := l.Next(context.Background(), &b); !errors.Is(err, ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
	}
}

func TestLoaderAllocatesNothing(t *testing.T) {
	x := openIndex(t, openCorpus(t, testConfig(t, 64, writeTree(t, corpusFiles(150, 1)))), 3)
	l, err := NewLoader(x, LoaderOptions{Rows: 4, Prefetch: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var b Batch
	next := func() {
		if err := l.Next(context.Background(), &b); err != nil {
			t.Fatal(err)
		}
	}
	for range 8 {
		next()
	}
	// One epoch has 100 batches or so, and its order is allocated.
	if n := testing.AllocsPerRun(60, next); n > 0.2 {
		t.Errorf("%v allocations a batch", n)
	}
}

func TestLoaderContext(t *testing.T) {
	t.Parallel()
	x := openIndex(t, openCorpus(t, testConfig(t, 16, writeTree(t, corpusFiles(30, 1)))), 3)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l, err := NewLoader(x, LoaderOptions{Rows: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var b Batch
	for range 100 { // a batch may be ready too
		if err := l.Next(ctx, &b); errors.Is(err, context.Canceled) {
			return
		}
	}
	t.Error("the context ended and batches came on")
}

func TestLoaderFaults(t *testing.T) {
	t.Parallel()
	x := openIndex(t, openCorpus(t, testConfig(t, 16, writeTree(t, corpusFiles(30, 1)))), 3)
	for _, opts := range []LoaderOptions{{}, {Rows: -1}, {Rows: 1, Start: -1}, {Rows: 4, Stride: 3}} {
		if _, err := NewLoader(x, opts); err == nil {
			t.Errorf("%+v: no error", opts)
		}
	}
}
