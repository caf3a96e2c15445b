package model

import (
	"math"
	"testing"
)

// jambaV01 is the released Jamba: every default of the reference.
func jambaV01(t testing.TB) Config {
	t.Helper()
	c, err := ReadHFConfig([]byte(`{"model_type": "jamba"}`))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func jamba15Large(t testing.TB) Config {
	c := jambaV01(t)
	c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers, c.NumAttentionHeads = 8192, 24576, 72, 64
	return c
}

// cpuPeer is the model of the PyTorch reference for CPU speed.
func cpuPeer(testing.TB) Config {
	c := Default()
	c.VocabSize, c.HiddenSize, c.IntermediateSize, c.NumExperts = 512, 256, 512, 8
	c.NumAttentionHeads, c.NumKeyValueHeads, c.MambaDtRank = 8, 2, 16
	return c
}

// bench1B is the model of the speed comparison on a GPU.
func bench1B(testing.TB) Config {
	c := Default()
	c.VocabSize, c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers = 65536, 2048, 4096, 16
	c.NumAttentionHeads, c.NumKeyValueHeads, c.NumExperts = 16, 4, 8
	return c
}

func TestCounts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		config        func(testing.TB) Config
		total, active int64 // exact, or in units of `unit`
		unit          int64
	}{
		{"jamba v0.1", jambaV01, 51_570_323_328, 12_110_311_296, 1},
		{"jamba 1.5 large", jamba15Large, 3986, 941, 100_000_000},
		{"cpu peer", cpuPeer, 17_658_960, 0, 1},
		{"bench-1b", bench1B, 2472, 1130 + 134, 1_000_000}, // 134 M in the embedding
	} {
		c := test.config(t)
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		n := c.Counts()
		round := func(count int64) int64 { return (count + test.unit/2) / test.unit }
		if round(n.Total) != test.total || test.active != 0 && round(n.Active) != test.active {
			t.Errorf("%s: %d parameters, %d active, want %d and %d in units of %d",
				test.name, n.Total, n.Active, test.total, test.active, test.unit)
		}
	}
}

// TestCountsOfGolden compares with the weights of the reference.
func TestCountsOfGolden(t *testing.T) {
	t.Parallel()
	for _, name := range goldenCases(t) {
		want := int64(0)
		for _, data := range goldenWeights(t, name).data {
			want += int64(len(data))
		}
		if got := goldenConfig(t, name).Counts().Total; got != want {
			t.Errorf("%s: %d parameters, want %d", name, got, want)
		}
	}
}

func TestFLOPs(t *testing.T) {
	t.Parallel()
	c := bench1B(t)
	f := c.FLOPs(2048)
	// All active weights but the embedding, norms and the like are in products.
	active := float64(c.Counts().Active - int64(c.VocabSize*c.HiddenSize))
	if got := f.MatMul / 2 / active; got < 0.99 || got > 1 {
		t.Errorf("products use %.4f of the active weights", got)
	}
	// 8 x 2048 tokens: 1.1e14, as measured beside the reference implementation.
	if step := 3 * f.MatMul * 8 * 2048; math.Abs(step/1.1e14-1) > 0.02 {
		t.Errorf("a step takes %.3g FLOP in products", step)
	}
	if got, want := f.Attention, 2*4*2048*2049.0/2; got != want {
		t.Errorf("attention takes %g, want %g", got, want)
	}
	if got, want := f.Scan, 14*7*4096*16.0; got != want {
		t.Errorf("scan takes %g, want %g", got, want)
	}
	if got, want := f.Conv, 14*2*4096*4.0; got != want {
		t.Errorf("convolution takes %g, want %g", got, want)
	}
	if f.Training() != 3*(f.MatMul+f.Attention+f.Scan+f.Conv) {
		t.Error("training is three times the sum")
	}
	tied := c
	tied.TieWordEmbeddings = true
	if tied.FLOPs(2048) != f {
		t.Error("a tied head costs the same")
	}
}
