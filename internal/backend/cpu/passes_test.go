package cpu

import (
	"math"
	"strings"
	"testing"

	"jambalaya/internal/engine"
)

// passCase is a call of a kernel other than the products.
type passCase struct {
	kernel string
	attrs  engine.Attrs
	inputs func(c *testCall)
	outs   []any // shapes: []int of floats, ints of integers; each in turn is left out, as where nobody uses it
	fixed  bool  // all outputs are always there
}

type ints []int

func num(name string, v float64) engine.Attr { return engine.Attr{Name: name, Value: v} }

const (
	passBatch, passLength = 3, 70
	passRows              = passBatch * passLength
)

// passDocs adds documents of 25 positions; the last row ends in padding.
func passDocs(c *testCall) {
	docs := make([]int32, passRows)
	for i := range docs {
		docs[i] = int32(i % passLength / 25)
	}
	for i := passRows - 4; i < passRows; i++ {
		docs[i] = -1
	}
	c.inInts(docs, passBatch, passLength)
}

// passInts adds integers below n.
func passInts(c *testCall, n int, shape ...int) {
	values := make([]int32, engine.Size(shape))
	for i := range values {
		values[i] = int32(c.rng.IntN(n))
	}
	c.inInts(values, shape...)
}

// passRouting adds slot and source: an order of 2 assignments a token.
func passRouting(c *testCall) {
	slot, source := make([]int32, 2*passRows), make([]int32, 2*passRows)
	for i, row := range c.rng.Perm(2 * passRows) {
		slot[i], source[row] = int32(row), int32(i)
	}
	c.inInts(slot, passRows, 2)
	c.inInts(source, 2*passRows)
}

func passFloats(shapes ...[]int) func(c *testCall) {
	return func(c *testCall) {
		for _, s := range shapes {
			c.in(s...)
		}
	}
}

func sequenceCases() []passCase {
	const b, l, t, d, n = passBatch, passLength, passRows, 80, 16
	place := engine.Attrs{num("batch", b), num("length", l), num("state", 1), num("has_dstate", 1)}
	conv := append(engine.Attrs{num("kernel", 4), num("bias", 1)}, place...)
	scan := append(engine.Attrs{num("chunk", 16)}, place...)
	convIn := func(c *testCall) {
		passFloats([]int{t, d}, []int{d, 4}, []int{d})(c)
		passDocs(c)
		c.in(b, 3, d)
	}
	scanIn := func(c *testCall) {
		passFloats([]int{t, d}, []int{t, d}, []int{d}, []int{d, n}, []int{t, n}, []int{t, n}, []int{d}, []int{t, d})(c)
		passDocs(c)
		c.in(b, d, n)
	}
	heads := engine.Attrs{num("batch", b), num("length", l), num("heads", 3), num("kv_heads", 1), num("head_dim", 8), num("theta", 1e4)}
	return []passCase{
		{kernel: "conv1d", attrs: conv, inputs: convIn, outs: []any{[]int{t, d}, []int{b, 3, d}}},
		{kernel: "conv1d_grad", attrs: conv, inputs: func(c *testCall) { convIn(c); passFloats([]int{t, d}, []int{b, 3, d})(c) },
			outs: []any{[]int{t, d}, []int{d, 4}, []int{d}, []int{b, 3, d}}},
		{kernel: "selective_scan", attrs: scan, inputs: scanIn, outs: []any{[]int{t, d}, []int{b, d, n}, []int{b, 5, d, n}}},
		{kernel: "selective_scan_grad", attrs: scan,
			inputs: func(c *testCall) { scanIn(c); passFloats([]int{b, 5, d, n}, []int{t, d}, []int{b, d, n})(c) },
			outs: []any{[]int{t, d}, []int{t, d}, []int{d}, []int{d, n}, []int{t, n}, []int{t, n}, []int{d}, []int{t, d},
				[]int{b, d, n}}},
		{kernel: "rope", attrs: heads, inputs: func(c *testCall) { c.in(t, 40); passDocs(c) }, outs: []any{[]int{t, 40}}, fixed: true},
	}
}

func rowCases() []passCase {
	const t, h = passRows, 70
	widths := engine.Attrs{num("eps", 1e-5), num("rank", 7), num("states", 16), num("norm", 1)}
	norm := engine.Attrs{num("eps", 1e-5), num("residual", 1)}
	weights := passFloats([]int{t, 39}, []int{7}, []int{16}, []int{16})
	return []passCase{
		{kernel: "rms_norm", attrs: norm, inputs: passFloats([]int{t, h}, []int{t, h}, []int{h}),
			outs: []any{[]int{t, h}, []int{t}, []int{t, h}}},
		{kernel: "rms_norm_grad", attrs: norm, inputs: passFloats([]int{t, h}, []int{h}, []int{t}, []int{t, h}, []int{t, h}),
			outs: []any{[]int{t, h}, []int{h}}},
		{kernel: "split_norm", attrs: widths, inputs: weights, outs: []any{[]int{t, 7}, []int{t, 16}, []int{t, 16}, []int{t, 3}}},
		{kernel: "split_norm_grad", attrs: widths,
			inputs: func(c *testCall) { weights(c); passFloats([]int{t, 3}, []int{t, 7}, []int{t, 16}, []int{t, 16})(c) },
			outs:   []any{[]int{t, 39}, []int{7}, []int{16}, []int{16}}},
		{kernel: "swiglu", inputs: passFloats([]int{t, 2 * h}), outs: []any{[]int{t, h}}, fixed: true},
		{kernel: "swiglu_grad", inputs: passFloats([]int{t, 2 * h}, []int{t, h}), outs: []any{[]int{t, 2 * h}}, fixed: true},
		{kernel: "embedding", inputs: func(c *testCall) { c.in(9, h); passInts(c, 9, t) }, outs: []any{[]int{t, h}}, fixed: true},
		{kernel: "embedding_grad", attrs: engine.Attrs{num("pad", 3)}, inputs: func(c *testCall) { passInts(c, 9, t); c.in(t, h) },
			outs: []any{[]int{9, h}}, fixed: true},
		{kernel: "cross_entropy", inputs: func(c *testCall) { c.in(t, h); passInts(c, h, t) }, outs: []any{[]int{1}, []int{t}, []int{t}}},
		{kernel: "cross_entropy_grad", inputs: func(c *testCall) { c.in(t, h); passInts(c, h, t); passFloats([]int{t}, []int{1})(c) },
			outs: []any{[]int{t, h}}, fixed: true},
		{kernel: "sum_squares", inputs: passFloats([]int{3*flatBlock + 7}), outs: []any{[]int{1}}, fixed: true},
	}
}

func expertCases() []passCase {
	const b, t, h, e = passBatch, passRows, 33, 8
	topK := engine.Attrs{num("k", 2), num("renormalise", 1), num("has_dprobs", 1), num("has_dweights", 1)}
	aux := engine.Attrs{num("scope", 1), num("batch", b), num("length", passLength), num("layers", 2)}
	layers := func(c *testCall) {
		for range 2 {
			c.in(t, e)
			passInts(c, e, t, 2)
		}
		passDocs(c)
	}
	return []passCase{
		{kernel: "router_topk", attrs: topK, inputs: passFloats([]int{t, e}), outs: []any{[]int{t, e}, []int{t, 2}, ints{t, 2}}},
		{kernel: "router_topk_grad", attrs: topK,
			inputs: func(c *testCall) {
				passFloats([]int{t, e}, []int{t, 2})(c)
				passInts(c, e, t, 2)
				passFloats([]int{t, e}, []int{t, 2})(c)
			}, outs: []any{[]int{t, e}}, fixed: true},
		{kernel: "router_aux", attrs: aux, inputs: layers, outs: []any{[]int{1}, []int{2, e}}},
		{kernel: "router_aux_grad", attrs: aux, inputs: func(c *testCall) { layers(c); c.in(1) }, outs: []any{[]int{t, e}, []int{t, e}}},
		{kernel: "expert_capacity", attrs: engine.Attrs{num("batch", b), num("length", passLength), num("experts", e), num("capacity", 3)},
			inputs: func(c *testCall) { c.in(t, 2); passInts(c, e, t, 2); passDocs(c) }, outs: []any{[]int{t, 2}, []int{b, e}}},
		{kernel: "expert_sort", attrs: engine.Attrs{num("experts", e)}, inputs: func(c *testCall) { passInts(c, e, t, 2) },
			outs: []any{ints{t, 2}, ints{2 * t}, ints{e + 1}}},
		{kernel: "dispatch", inputs: func(c *testCall) { c.in(t, h); passRouting(c) }, outs: []any{[]int{2 * t, h}}, fixed: true},
		{kernel: "dispatch_grad", inputs: func(c *testCall) { c.in(2*t, h); passRouting(c) }, outs: []any{[]int{t, h}}, fixed: true},
		{kernel: "combine", inputs: func(c *testCall) { passFloats([]int{2 * t, h}, []int{t, 2})(c); passRouting(c) },
			outs: []any{[]int{t, h}}, fixed: true},
		{kernel: "combine_grad", inputs: func(c *testCall) { passFloats([]int{2 * t, h}, []int{t, 2})(c); passRouting(c); c.in(t, h) },
			outs: []any{[]int{2 * t, h}, []int{t, 2}}},
	}
}

// run executes the case without output drop (-1: with all) and returns the outputs as bits.
func (p passCase) run(t *testing.T, b *Backend, drop int) (outs [][]float32, step func()) {
	t.Helper()
	c := newTestCall(t, b, p.kernel, p.attrs...)
	p.inputs(c)
	for i, shape := range p.outs {
		switch s := shape.(type) {
		case ints:
			x := c.tensor(engine.Int32, s...)
			c.call.Out = append(c.call.Out, x)
			outs = append(outs, nil)
			if i != drop {
				x.DType = engine.Float32 // the same memory, compared as bits
				outs[i] = F32(x)
				x.DType = engine.Int32
			}
		case []int:
			outs = append(outs, c.out(s...))
		}
		if i == drop {
			c.call.Out[i], outs[i] = nil, nil
		}
	}
	step = c.bind()
	if c.call.Scratch != nil {
		for i := range F32(c.call.Scratch) { // scratch memory holds whatever was there before
			F32(c.call.Scratch)[i] = float32(math.NaN())
		}
	}
	step()
	return outs, step
}

// TestPasses: results have the same bits on any number of workers and whichever outputs are used, and a step
// allocates nothing. What the values are is tested in simd and, through the engine, against the references.
func TestPasses(t *testing.T) {
	backends := testBackends(t)
	for _, p := range append(append(sequenceCases(), rowCases()...), expertCases()...) {
		t.Run(p.kernel, func(t *testing.T) {
			want, step := p.run(t, backends[0], -1)
			for i, x := range want {
				for j, v := range x {
					if v != v {
						t.Fatalf("output %d: element %d was not written", i, j)
					}
				}
			}
			if n := testing.AllocsPerRun(2, step); n != 0 {
				t.Errorf("%g allocations in a step", n)
			}
			for _, b := range backends[1:] {
				got, _ := p.run(t, b, -1)
				for i := range want {
					sameBits(t, p.kernel, got[i], want[i])
				}
			}
			for drop := 0; drop < len(p.outs) && !p.fixed; drop++ {
				got, _ := p.run(t, backends[1], drop)
				for i := range want {
					if i != drop {
						sameBits(t, p.kernel, got[i], want[i])
					}
				}
			}
		})
	}
}

// TestPassErrors: what is out of range is an error of the step, not a panic.
func TestPassErrors(t *testing.T) {
	b := New(1)
	defer b.Close()
	for _, c := range []struct {
		kernel string
		attrs  engine.Attrs
		inputs func(c *testCall)
		outs   []any
		want   string
	}{
		{"embedding", nil, func(c *testCall) { c.in(4, 2); c.inInts([]int32{0, 4}, 2) }, []any{[]int{2, 2}}, "token 4 at position 1"},
		{"embedding", nil, func(c *testCall) { c.in(4, 2); c.inInts([]int32{-1, 0}, 2) }, []any{[]int{2, 2}}, "token -1 at position 0"},
		{"cross_entropy", nil, func(c *testCall) { c.in(2, 4); c.inInts([]int32{-100, 4}, 2) }, []any{[]int{1}, []int{2}, []int{2}},
			"target 4 at position 1"},
		{"expert_sort", engine.Attrs{num("experts", 2)}, func(c *testCall) { c.inInts([]int32{0, 2}, 2, 1) },
			[]any{ints{2, 1}, ints{2}, ints{3}}, "expert 2 of 2"},
	} {
		call := newTestCall(t, b, c.kernel, c.attrs...)
		c.inputs(call)
		for _, shape := range c.outs {
			if s, ok := shape.(ints); ok {
				call.call.Out = append(call.call.Out, call.tensor(engine.Int32, s...))
			} else {
				call.out(shape.([]int)...)
			}
		}
		k, _ := b.Kernel(c.kernel)
		if n := k.Scratch(&call.call); n > 0 {
			call.call.Scratch = call.tensor(engine.Float32, n)
		}
		step, err := k.Bind(&call.call)
		if err != nil {
			t.Fatal(err)
		}
		if err := step(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that says %q", c.kernel, err, c.want)
		}
	}
}

// TestAdamWSkips: a gradient that is not finite, or a step that is to be skipped, changes nothing.
func TestAdamWSkips(t *testing.T) {
	b := New(2)
	defer b.Close()
	for _, c := range []struct {
		name           string
		squares, apply float32
		changes        bool
	}{
		{"step", 4, 1, true},
		{"skip", 4, 0, false},
		{"infinite", float32(math.Inf(1)), 1, false},
		{"not a number", float32(math.NaN()), 1, false},
	} {
		call := newTestCall(t, b, "adamw", num("beta1", 0.9), num("beta2", 0.95), num("eps", 1e-8), num("weight_decay", 0.1), num("clip", 1))
		n := flatBlock + 5
		p := call.in(n)
		call.alias()
		for range 2 {
			clear(call.in(n))
			call.alias()
		}
		call.in(n)
		copy(call.in(1), []float32{c.squares})
		copy(call.in(4), []float32{1e-2, 0.1, 0.05, c.apply})
		before := append([]float32(nil), p...)
		call.bind()()
		changed := 0
		for i := range p {
			if p[i] != before[i] {
				changed++
			}
		}
		if c.changes != (changed == n) || !c.changes && changed > 0 {
			t.Errorf("%s: %d of %d weights changed", c.name, changed, n)
		}
	}
}
