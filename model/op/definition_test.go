package op

import (
	"math"
	"math/cmplx"
	"testing"
)

// The tests of this file compare operators with their definitions, computed in
// another way than the references do. Finite differences then carry over to the
// gradients.

// evaluateCase returns the value of the first output of a case, and of its
// inputs by name.
func evaluateCase(t *testing.T, name string, s size) (outs [][]float64, in map[string][]float64) {
	t.Helper()
	for _, c := range cases {
		if c.name != name {
			continue
		}
		k := newKit(uint64(len(name)))
		diff, rest := c.build(k, s)
		outs, err := Evaluate(k.Graph(), k.values, append(diff, rest...)...)
		if err != nil {
			t.Fatal(err)
		}
		in = map[string][]float64{}
		for n, v := range k.values {
			in[n.Name()] = v
		}
		return outs, in
	}
	t.Fatalf("no case %q", name)
	return nil, nil
}

func near(t *testing.T, what string, got, want []float64) {
	t.Helper()
	if e := relativeError(got, want); len(got) != len(want) || !(e <= 1e-12) {
		t.Errorf("%s: off by %.1e of its largest element\n got %v\nwant %v", what, e, got, want)
	}
}

// sees says whether position t of row b sees position u.
func sees(docs []float64, s size, b, t, u int) bool {
	return u <= t && docs[b*s.l+t] == docs[b*s.l+u]
}

// TestScanIsASumOverThePast: unrolled, the recurrence is
// s_t = sum_u exp(A (delta_(u+1) + ... + delta_t)) delta_u x_u B_u
// over the positions that t sees; the initial state is a position before the row.
func TestScanIsASumOverThePast(t *testing.T) {
	t.Parallel()
	s := size{b: 3, l: 9, d: 3, n: 2, chunk: 4}
	outs, in := evaluateCase(t, "selective_scan state, final", s)
	docs := in["docs"]
	delta := func(b, u, d int) float64 {
		return math.Log(1 + math.Exp(in["dt"][(b*s.l+u)*s.d+d]+in["bias"][d]))
	}
	state := func(b, t, d, n int) float64 {
		a, sum, past := -math.Exp(in["alog"][d*s.n+n]), 0.0, 0.0
		for u := t; u >= 0 && sees(docs, s, b, t, u); u-- {
			at := b*s.l + u
			sum += math.Exp(a*past) * delta(b, u, d) * in["x"][at*s.d+d] * in["b"][at*s.n+n]
			past += delta(b, u, d)
		}
		if sees(docs, s, b, t, 0) {
			sum += math.Exp(a*past) * in["state"][(b*s.d+d)*s.n+n]
		}
		return sum
	}
	var y, final []float64
	for b := 0; b < s.b; b++ {
		for t := 0; t < s.l; t++ {
			for d := 0; d < s.d; d++ {
				at := b*s.l + t
				sum := in["d"][d] * in["x"][at*s.d+d]
				for n := 0; n < s.n; n++ {
					sum += in["c"][at*s.n+n] * state(b, t, d, n)
				}
				z := in["z"][at*s.d+d]
				y = append(y, sum*z/(1+math.Exp(-z)))
			}
		}
		for d := 0; d < s.d; d++ {
			for n := 0; n < s.n; n++ {
				final = append(final, state(b, s.l-1, d, n))
			}
		}
	}
	near(t, "y", outs[0], y)
	near(t, "final state", outs[1], final)
}

// TestConvolutionSlides: each document is written after K-1 zeros (the first one
// of a row after the state) and the taps slide over it.
func TestConvolutionSlides(t *testing.T) {
	t.Parallel()
	s := size{b: 3, l: 9, d: 2, taps: 4}
	outs, in := evaluateCase(t, "conv1d bias, state, final", s)
	var y, final []float64
	for b := 0; b < s.b; b++ {
		var line [][]float64 // inputs of the current document, channels inside
		for t := 0; t < s.l; t++ {
			at := b*s.l + t
			if t == 0 || in["docs"][at] != in["docs"][at-1] {
				line = nil
				for q := 0; q < s.taps-1; q++ {
					before := make([]float64, s.d)
					if t == 0 {
						copy(before, in["state"][(b*(s.taps-1)+q)*s.d:])
					}
					line = append(line, before)
				}
			}
			line = append(line, in["x"][at*s.d:][:s.d])
			for d := 0; d < s.d; d++ {
				sum := in["bias"][d]
				for k := 0; k < s.taps; k++ {
					sum += in["w"][d*s.taps+k] * line[len(line)-s.taps+k][d]
				}
				y = append(y, sum/(1+math.Exp(-sum)))
			}
		}
		for _, x := range line[len(line)-s.taps+1:] {
			final = append(final, x...)
		}
	}
	near(t, "y", outs[0], y)
	near(t, "final state", outs[1], final)
}

// TestAttentionIsAMatrix: softmax of the whole masked matrix of scores, times v.
func TestAttentionIsAMatrix(t *testing.T) {
	t.Parallel()
	s := size{b: 3, l: 7, heads: 4, kvHeads: 2, headDim: 3}
	outs, in := evaluateCase(t, "attention", s)
	h := s.geometry()
	at := func(b, t, part, head, c int) float64 { // part: 0 q, 1 k, 2 v
		first := []int{0, h.Heads, h.Heads + h.KVHeads}[part]
		return in["qkv"][(b*s.l+t)*h.Width()+(first+head)*h.HeadDim+c]
	}
	var want []float64
	for b := 0; b < s.b; b++ {
		for t := 0; t < s.l; t++ {
			for head := 0; head < h.Heads; head++ {
				kv := head * h.KVHeads / h.Heads
				row, sum := make([]float64, s.l), 0.0
				for u := range row {
					if sees(in["docs"], s, b, t, u) {
						dot := 0.0
						for c := 0; c < h.HeadDim; c++ {
							dot += at(b, t, 0, head, c) * at(b, u, 1, kv, c)
						}
						row[u] = math.Exp(dot / math.Sqrt(float64(h.HeadDim)))
					}
					sum += row[u]
				}
				for c := 0; c < h.HeadDim; c++ {
					o := 0.0
					for u := range row {
						o += row[u] / sum * at(b, u, 2, kv, c)
					}
					want = append(want, o)
				}
			}
		}
	}
	near(t, "attention", outs[0], want)
}

// TestCachedAttentionIsAttention: a prompt and then token by token, the cache
// gives what attention over the whole row gives.
func TestCachedAttentionIsAttention(t *testing.T) {
	t.Parallel()
	const batch, length, capacity = 2, 7, 9
	h := Heads{Heads: 4, KVHeads: 2, HeadDim: 3}
	k := newKit(5)
	whole := k.fixed("qkv", batch*length, h.Width())
	out, err := Evaluate(k.Graph(), k.values, k.Attention(whole, k.ints("docs", make([]int, batch*length), batch, length), h))
	if err != nil {
		t.Fatal(err)
	}
	caches := [][]float64{make([]float64, batch*capacity*h.KVHeads*h.HeadDim), make([]float64, batch*capacity*h.KVHeads*h.HeadDim)}
	for pos := 0; pos < length; {
		n := 1
		if pos == 0 {
			n = 3
		}
		step := newKit(6)
		var qkv, want []float64
		for b := 0; b < batch; b++ {
			from := b*length + pos
			qkv = append(qkv, k.values[whole][from*h.Width():(from+n)*h.Width()]...)
			want = append(want, out[0][from*h.Heads*h.HeadDim:(from+n)*h.Heads*h.HeadDim]...)
		}
		kv := []int{batch, capacity, h.KVHeads * h.HeadDim}
		y, keys, values := step.CachedAttention(step.keep(step.Input("qkv", batch*n, h.Width()), qkv),
			step.keep(step.Input("keys", kv...), caches[0]), step.keep(step.Input("values", kv...), caches[1]),
			step.ints("pos", []int{pos}, 1), h)
		got, err := Evaluate(step.Graph(), step.values, y, keys, values)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "attention over the cache", got[0], want)
		caches = got[1:]
		pos += n
	}
}

// TestRopeIsAComplexRotation: pair i of a head is a complex number, turned by
// position * theta^(-2i/d).
func TestRopeIsAComplexRotation(t *testing.T) {
	t.Parallel()
	s := size{b: 3, l: 6, heads: 4, kvHeads: 2, headDim: 6}
	outs, in := evaluateCase(t, "rope offset", s)
	h, docs := s.geometry(), in["docs"]
	want := append([]float64(nil), in["qkv"]...)
	for b := 0; b < s.b; b++ {
		for t := 0; t < s.l; t++ {
			position := -1.0
			for u := range s.l {
				if sees(docs, s, b, t, u) {
					position++
				}
			}
			if sees(docs, s, b, t, 0) {
				position += in["pos"][0]
			}
			for head := 0; head < h.Heads+h.KVHeads; head++ {
				x := want[(b*s.l+t)*h.Width()+head*h.HeadDim:][:h.HeadDim]
				for i := 0; i < h.HeadDim/2; i++ {
					turn := cmplx.Rect(1, position/math.Pow(10000, 2*float64(i)/float64(h.HeadDim)))
					turned := complex(x[i], x[i+h.HeadDim/2]) * turn
					x[i], x[i+h.HeadDim/2] = real(turned), imag(turned)
				}
			}
		}
	}
	near(t, "rope", outs[0], want)
}

// TestCrossEntropyIsMinusLogP, and stays finite where exp would not.
func TestCrossEntropyIsMinusLogP(t *testing.T) {
	t.Parallel()
	s := size{b: 2, l: 3, v: 5}
	outs, in := evaluateCase(t, "cross_entropy", s)
	loss, nll := 0.0, make([]float64, s.rows())
	for i, target := range in["targets"] {
		if target == IgnoreTarget {
			continue
		}
		sum := 0.0
		for _, x := range in["logits"][i*s.v : (i+1)*s.v] {
			sum += math.Exp(x)
		}
		nll[i] = -math.Log(math.Exp(in["logits"][i*s.v+int(target)]) / sum)
		loss += nll[i]
	}
	near(t, "loss", outs[0], []float64{loss})
	near(t, "nll", outs[1], nll)

	k := newKit(1)
	l, _ := k.CrossEntropy(k.keep(k.Input("logits", 1, 2), []float64{1000, 0}), k.ints("targets", []int{1}, 1, 1))
	got, err := Evaluate(k.Graph(), k.values, l)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "loss of logits of 1000", got[0], []float64{1000})
}

// TestRouterAuxOfPerfectBalance is k, in both scopes; all choices on one expert of
// certainty 1 give E.
func TestRouterAuxOfPerfectBalance(t *testing.T) {
	t.Parallel()
	const experts, chosen, rows = 4, 2, 8
	for _, scope := range []AuxScope{AuxBatch, AuxSequence} {
		k := newKit(1)
		var balanced []int
		for i := 0; i < rows*chosen; i++ {
			balanced = append(balanced, i%experts)
		}
		uniform := make([]float64, rows*experts)
		certain := make([]float64, rows*experts)
		for i := range uniform {
			uniform[i] = 1.0 / experts
			if i%experts == 0 {
				certain[i] = 1
			}
		}
		docs := k.ints("docs", make([]int, rows), 1, rows)
		p := k.keep(k.Input("uniform", rows, experts), uniform)
		even, _ := k.RouterAux(nodes{p, p}, nodes{k.ints("index", balanced, rows, chosen), k.ints("again", balanced, rows, chosen)}, docs, scope)
		q := k.keep(k.Input("certain", rows, experts), certain)
		skewed, load := k.RouterAux(nodes{q}, nodes{k.ints("zeros", make([]int, rows), rows, 1)}, docs, scope)
		got, err := Evaluate(k.Graph(), k.values, even, skewed, load)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "balanced", got[0], []float64{chosen})
		near(t, "skewed", got[1], []float64{experts})
		near(t, "load", got[2], []float64{rows, 0, 0, 0})
	}
}

// TestMixtureIsAWeightedSum: a layer of experts, token by token, without sorting.
func TestMixtureIsAWeightedSum(t *testing.T) {
	t.Parallel()
	s := size{b: 2, l: 4, h: 5, i: 3, e: 4, k: 2}
	outs, in := evaluateCase(t, "moe", s)
	times := func(w, x []float64, rows int) []float64 {
		y := make([]float64, rows)
		for r := range y {
			for c, v := range x {
				y[r] += w[r*len(x)+c] * v
			}
		}
		return y
	}
	var want []float64
	for t := 0; t < s.rows(); t++ {
		x := in["x"][t*s.h : (t+1)*s.h]
		scores := times(in["router"], x, s.e)
		sum, y := 0.0, make([]float64, s.h)
		for _, v := range scores {
			sum += math.Exp(v)
		}
		for e, v := range scores {
			better := 0
			for _, other := range scores {
				if other > v {
					better++
				}
			}
			if better >= s.k {
				continue
			}
			gu := times(in["gu"][e*2*s.i*s.h:(e+1)*2*s.i*s.h], x, 2*s.i)
			inner := make([]float64, s.i)
			for i := range inner {
				inner[i] = gu[i] / (1 + math.Exp(-gu[i])) * gu[s.i+i]
			}
			for c, o := range times(in["down"][e*s.h*s.i:(e+1)*s.h*s.i], inner, s.h) {
				y[c] += math.Exp(v) / sum * o
			}
		}
		want = append(want, y...)
	}
	near(t, "mixture", outs[0], want)
}

// TestRouterTies: equal probabilities go to the lower expert.
func TestRouterTies(t *testing.T) {
	t.Parallel()
	k := newKit(1)
	_, _, index := k.RouterTopK(k.keep(k.Input("logits", 2, 4), []float64{1, 3, 3, 3, 0, 0, 0, 0}), 2, false)
	got, err := Evaluate(k.Graph(), k.values, index)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "index", got[0], []float64{1, 2, 0, 1})
}

// TestAdamW: the first step has the length lr in every direction, weight decay
// aside, and a gradient that is not finite changes nothing.
func TestAdamW(t *testing.T) {
	t.Parallel()
	const lr, decay, beta1, beta2 = 0.1, 0.5, 0.9, 0.99
	for _, c := range []struct {
		name string
		grad []float64
		want []float64
	}{
		{"first step", []float64{3, -0.02}, []float64{2*(1-lr*decay) - lr, 5*(1-lr*decay) + lr}},
		{"infinite", []float64{3, math.Inf(1)}, []float64{2, 5}},
		{"not a number", []float64{math.NaN(), 1}, []float64{2, 5}},
	} {
		k := newKit(1)
		in := func(name string, v ...float64) nodes { return nodes{k.keep(k.Input(name, len(v)), v)} }
		g := in("g", c.grad...)[0]
		p := k.AdamW(in("p", 2, 5)[0], in("m", 0, 0)[0], in("v", 0, 0)[0], g, k.SumSquares(g),
			in("hyper", lr, 1-beta1, 1-beta2, 1)[0], nil, AdamWConfig{Beta1: beta1, Beta2: beta2, WeightDecay: decay})[0]
		got, err := Evaluate(k.Graph(), k.values, p)
		if err != nil {
			t.Fatal(err)
		}
		near(t, c.name, got[0], c.want)
	}
}
