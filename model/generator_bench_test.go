package model

import (
	"fmt"
	"testing"

	"jambalaya/internal/backend/cpu"
	"jambalaya/internal/engine"
)

// ofPattern is a model of the nano preset's size with the given mixers.
func ofPattern(pattern string) Config {
	cfg := Default()
	cfg.NumHiddenLayers, cfg.LayerPattern = len(pattern), pattern
	return cfg
}

// generatorOf returns a generator of fresh weights.
func generatorOf(t testing.TB, be engine.Backend, cfg Config, capacity int) *Generator {
	t.Helper()
	w, err := NewWeights(be, cfg, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Init(1); err != nil {
		t.Fatal(err)
	}
	g, err := NewGenerator(be, w, capacity)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// TestStatesOfMambaDoNotGrow: what a Mamba layer keeps of a text is the same for any
// length, what an attention layer keeps grows with it.
func TestStatesOfMambaDoNotGrow(t *testing.T) {
	t.Parallel()
	be := cpu.New(1)
	defer be.Close()
	for _, c := range []struct {
		pattern string
		grows   bool
	}{{"mMmM", false}, {"mMaM", true}} {
		short := generatorOf(t, be, ofPattern(c.pattern), 64).StateBytes()
		long := generatorOf(t, be, ofPattern(c.pattern), 1<<16).StateBytes()
		if (long > short) != c.grows {
			t.Errorf("%s: %d bytes of state for 64 tokens, %d for 65536", c.pattern, short, long)
		}
	}
}

// BenchmarkToken generates a token at some position of the text: with Mamba alone
// the position makes no difference.
func BenchmarkToken(b *testing.B) {
	be := cpu.New(1)
	defer be.Close()
	for _, pattern := range []string{"mMmMmMmM", "mMaMmMaM"} {
		for _, position := range []int{1 << 6, 1 << 10, 1 << 14} {
			b.Run(fmt.Sprintf("%s/at%d", pattern, position), func(b *testing.B) {
				const room = 1 << 16
				g := generatorOf(b, be, ofPattern(pattern), position+room)
				if _, err := g.Read(make([]int32, position)); err != nil {
					b.Fatal(err)
				}
				token := []int32{1}
				for b.Loop() {
					if _, err := g.Read(token); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
