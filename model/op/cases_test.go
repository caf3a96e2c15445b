package op

import (
	G "gorgonia.org/gorgonia"
)

// size are the extents of a case, by the letters of the package documentation.
type size struct {
	name                    string
	b, l, h, d, n, r        int
	e, k, i, v              int
	chunk, taps             int
	heads, kvHeads, headDim int
}

func (s size) rows() int { return s.b * s.l }

func (s size) geometry() Heads { return Heads{Heads: s.heads, KVHeads: s.kvHeads, HeadDim: s.headDim} }

var (
	// small is for finite differences.
	small = size{name: "small", b: 2, l: 5, h: 4, d: 3, n: 2, r: 3, e: 4, k: 2, i: 3, v: 7, chunk: 2, taps: 3, heads: 4, kvHeads: 2, headDim: 2}
	// short is as small, with rows shorter than a convolution and the chunk of a scan.
	short = size{name: "short", b: 3, l: 1, h: 2, d: 2, n: 2, r: 2, e: 3, k: 1, i: 2, v: 3, chunk: 4, taps: 4, heads: 2, kvHeads: 1, headDim: 4}
	// one is a step of generation: rows shorter than a convolution.
	one = size{name: "one", b: 2, l: 1, h: 33, d: 40, n: 16, r: 7, e: 8, k: 2, i: 17, v: 65, chunk: 8, taps: 4, heads: 6, kvHeads: 1, headDim: 8}
	// odd reaches the tails of vector kernels and several blocks of rows.
	odd = size{name: "odd", b: 3, l: 61, h: 70, d: 53, n: 16, r: 5, e: 5, k: 3, i: 19, v: 131, chunk: 16, taps: 4, heads: 4, kvHeads: 2, headDim: 24}
)

// opCase builds operators for all tests: it returns the outputs that are
// differentiated, and those that are only computed.
type opCase struct {
	name  string
	build func(k *kit, s size) (outs, rest []*G.Node)
}

type nodes = []*G.Node

// cases has every operator with its options on and off; TestEveryOperatorHasACase
// sees to that.
var cases = []opCase{
	{"add", func(k *kit, s size) (nodes, nodes) {
		return nodes{k.Add(k.float("a", s.rows(), s.h), k.float("b", s.rows(), s.h))}, nil
	}},
	{"add to itself", func(k *kit, s size) (nodes, nodes) {
		x := k.float("x", s.rows(), s.h)
		return nodes{k.Add(x, x)}, nil
	}},
	{"add_bias", func(k *kit, s size) (nodes, nodes) {
		return nodes{k.AddBias(k.float("x", s.rows(), s.h), k.float("b", s.h))}, nil
	}},
	{"matmul", func(k *kit, s size) (nodes, nodes) {
		return nodes{k.MatMul(k.float("x", s.rows(), s.h), k.float("y", s.h, s.i), false, false)}, nil
	}},
	{"matmul ta", func(k *kit, s size) (nodes, nodes) {
		return nodes{k.MatMul(k.float("x", s.h, s.rows()), k.float("y", s.h, s.i), true, false)}, nil
	}},
	{"matmul tb", func(k *kit, s size) (nodes, nodes) {
		return nodes{k.MatMul(k.float("x", s.rows(), s.h), k.float("y", s.i, s.h), false, true)}, nil
	}},
	{"matmul ta tb", func(k *kit, s size) (nodes, nodes) {
		return nodes{k.MatMul(k.float("x", s.h, s.rows()), k.float("y", s.i, s.h), true, true)}, nil
	}},
	{"matmul shared weight", func(k *kit, s size) (nodes, nodes) { // gradients are summed by gorgonia
		w := k.float("w", s.h, s.h)
		return nodes{k.MatMul(k.MatMul(k.float("x", s.rows(), s.h), w, false, true), w, false, true)}, nil
	}},
	{"rms_norm", func(k *kit, s size) (nodes, nodes) {
		return nodes{k.RMSNorm(k.float("x", s.rows(), s.h), k.float("w", s.h), 1e-5)}, nil
	}},
	{"rms_norm residual", func(k *kit, s size) (nodes, nodes) {
		y, sum := k.AddRMSNorm(k.float("x", s.rows(), s.h), k.float("delta", s.rows(), s.h), k.float("w", s.h), 0.1)
		return nodes{y, sum}, nil
	}},
	{"rms_norm residual, sum unused", func(k *kit, s size) (nodes, nodes) {
		y, _ := k.AddRMSNorm(k.float("x", s.rows(), s.h), k.float("delta", s.rows(), s.h), k.float("w", s.h), 0.1)
		return nodes{y}, nil
	}},
	{"embedding", func(k *kit, s size) (nodes, nodes) {
		return nodes{k.Embedding(k.float("table", s.v, s.h), k.ints("ids", k.below(s.v, s.rows()), s.b, s.l), -1)}, nil
	}},
	{"swiglu", func(k *kit, s size) (nodes, nodes) {
		return nodes{k.SwiGLU(k.float("gu", s.rows(), 2*s.i))}, nil
	}},
	{"conv1d", func(k *kit, s size) (nodes, nodes) {
		y, final := conv(k, s, false, false)
		return nodes{y}, nodes{final}
	}},
	{"conv1d bias", func(k *kit, s size) (nodes, nodes) {
		y, _ := conv(k, s, true, false)
		return nodes{y}, nil
	}},
	{"conv1d state", func(k *kit, s size) (nodes, nodes) {
		y, final := conv(k, s, false, true)
		return nodes{y}, nodes{final}
	}},
	{"conv1d bias, state, final", func(k *kit, s size) (nodes, nodes) {
		y, final := conv(k, s, true, true)
		return nodes{y, final}, nil
	}},
	{"conv1d final", func(k *kit, s size) (nodes, nodes) {
		y, final := conv(k, s, false, false)
		return nodes{y, final}, nil
	}},
	{"split_norm", func(k *kit, s size) (nodes, nodes) {
		dt, b, c := k.SplitNorm(k.float("p", s.rows(), s.r+2*s.n), k.float("wdt", s.r), k.float("wb", s.n), k.float("wc", s.n), s.r, s.n, 0.1)
		return nodes{dt, b, c}, nil
	}},
	{"split_norm plain", func(k *kit, s size) (nodes, nodes) {
		dt, b, c := k.SplitNorm(k.float("p", s.rows(), s.r+2*s.n), nil, nil, nil, s.r, s.n, 0.1)
		return nodes{dt, b, c}, nil
	}},
	{"selective_scan", func(k *kit, s size) (nodes, nodes) {
		y, final := scan(k, s, false)
		return nodes{y}, nodes{final}
	}},
	{"selective_scan final", func(k *kit, s size) (nodes, nodes) {
		y, final := scan(k, s, false)
		return nodes{y, final}, nil
	}},
	{"selective_scan state", func(k *kit, s size) (nodes, nodes) {
		y, _ := scan(k, s, true)
		return nodes{y}, nil
	}},
	{"selective_scan state, final", func(k *kit, s size) (nodes, nodes) {
		y, final := scan(k, s, true)
		return nodes{y, final}, nil
	}},
	{"attention", func(k *kit, s size) (nodes, nodes) {
		return nodes{k.Attention(k.float("qkv", s.rows(), s.geometry().Width()), k.docs(s.b, s.l), s.geometry())}, nil
	}},
	{"attention, a key for each query", func(k *kit, s size) (nodes, nodes) {
		h := Heads{Heads: 2, KVHeads: 2, HeadDim: s.headDim}
		return nodes{k.Attention(k.float("qkv", s.rows(), h.Width()), k.docs(s.b, s.l), h)}, nil
	}},
	{"rope", func(k *kit, s size) (nodes, nodes) {
		return nodes{k.Rope(k.float("qkv", s.rows(), s.geometry().Width()), k.docs(s.b, s.l), nil, s.geometry(), 100)}, nil
	}},
	{"rope offset", func(k *kit, s size) (nodes, nodes) {
		return nodes{k.Rope(k.float("qkv", s.rows(), s.geometry().Width()), k.docs(s.b, s.l), k.ints("pos", []int{11}, 1), s.geometry(), 10000)}, nil
	}},
	{"cross_entropy", func(k *kit, s size) (nodes, nodes) {
		targets := k.below(s.v, s.rows())
		targets[s.rows()-1] = IgnoreTarget
		loss, nll := k.CrossEntropy(k.float("logits", s.rows(), s.v), k.ints("targets", targets, s.b, s.l))
		return nodes{loss}, nodes{nll}
	}},
	{"router_topk weights", func(k *kit, s size) (nodes, nodes) {
		_, w, index := k.RouterTopK(k.float("logits", s.rows(), s.e), s.k, false)
		return nodes{w}, nodes{index}
	}},
	{"router_topk probs", func(k *kit, s size) (nodes, nodes) {
		p, _, _ := k.RouterTopK(k.float("logits", s.rows(), s.e), s.k, false)
		return nodes{p}, nil
	}},
	{"router_topk renormalised", func(k *kit, s size) (nodes, nodes) {
		p, w, index := k.RouterTopK(k.float("logits", s.rows(), s.e), s.k, true)
		return nodes{p, w}, nodes{index}
	}},
	{"router_topk all", func(k *kit, s size) (nodes, nodes) {
		p, w, index := k.RouterTopK(k.float("logits", s.rows(), s.e), s.e, true)
		return nodes{p, w}, nodes{index}
	}},
	{"dispatch", func(k *kit, s size) (nodes, nodes) {
		r := routing(k, s)
		return nodes{k.Dispatch(k.float("x", s.rows(), s.h), r)}, nodes{r.Slot, r.Source, r.Offsets}
	}},
	{"combine", func(k *kit, s size) (nodes, nodes) {
		return nodes{k.Combine(k.float("ys", s.rows()*s.k, s.h), k.float("weights", s.rows(), s.k), routing(k, s))}, nil
	}},
	{"grouped_matmul", func(k *kit, s size) (nodes, nodes) {
		return nodes{k.GroupedMatMul(k.float("x", s.rows()*s.k, s.h), k.float("w", s.e, s.i, s.h), routing(k, s))}, nil
	}},
	{"grouped_matmul shared weight", func(k *kit, s size) (nodes, nodes) { // dw accumulates
		r, w := routing(k, s), k.float("w", s.e, s.h, s.h)
		return nodes{k.GroupedMatMul(k.GroupedMatMul(k.float("x", s.rows()*s.k, s.h), w, r), w, r)}, nil
	}},
	{"router_aux batch", func(k *kit, s size) (nodes, nodes) { return aux(k, s, AuxBatch) }},
	{"router_aux sequence", func(k *kit, s size) (nodes, nodes) { return aux(k, s, AuxSequence) }},
	{"expert_capacity", func(k *kit, s size) (nodes, nodes) {
		w, drops := k.ExpertCapacity(k.float("weights", s.rows(), s.k), index(k, s), k.docs(s.b, s.l), s.e, Capacity(0.6, s.l, s.k, s.e))
		return nodes{w}, nodes{drops}
	}},
	{"moe", moe},
	{"attention_cached", func(k *kit, s size) (nodes, nodes) {
		capacity, h := s.l+6, s.geometry()
		kv := []int{s.b, capacity, h.KVHeads * h.HeadDim}
		out, keys, values := k.CachedAttention(k.fixed("qkv", s.rows(), h.Width()), k.fixed("keys", kv...), k.fixed("values", kv...),
			k.ints("pos", []int{4}, 1), h)
		return nil, nodes{out, keys, values}
	}},
	{"conv1d updates its state", func(k *kit, s size) (nodes, nodes) {
		k.UpdateStates()
		y, final := conv(k, s, true, true)
		return nil, nodes{y, final}
	}},
	{"selective_scan updates its state", func(k *kit, s size) (nodes, nodes) {
		k.UpdateStates()
		y, final := scan(k, s, true)
		return nil, nodes{y, final}
	}},
	{"adamw", func(k *kit, s size) (nodes, nodes) { return adamw(k, s, 0, []float64{0.01, 0.1, 0.001, 1}, false) }},
	{"adamw clipped", func(k *kit, s size) (nodes, nodes) { return adamw(k, s, 0.5, []float64{0.01, 0.5, 0.01, 1}, true) }},
	{"adamw skipped", func(k *kit, s size) (nodes, nodes) { return adamw(k, s, 1, []float64{0.01, 0.5, 0.01, 0}, true) }},
	{"narrow", func(k *kit, s size) (nodes, nodes) {
		return nil, nodes{k.Narrow(k.fixed("x", s.rows(), 3), k.fixed("to", s.rows(), 3))}
	}},
	{"accumulate", func(k *kit, s size) (nodes, nodes) {
		return nil, nodes{k.Accumulate(k.fixed("sum", s.rows(), s.h), k.fixed("x", s.rows(), s.h))}
	}},
	{"accumulate a product", func(k *kit, s size) (nodes, nodes) {
		dw := k.MatMul(k.fixed("dy", s.rows(), s.i), k.fixed("x", s.rows(), s.h), true, false)
		return nil, nodes{k.Accumulate(k.fixed("sum", s.i, s.h), dw)}
	}},
}

func conv(k *kit, s size, bias, state bool) (y, final *G.Node) {
	var biasD, stateN *G.Node
	if bias {
		biasD = k.float("bias", s.d)
	}
	if state {
		stateN = k.float("state", s.b, s.taps-1, s.d)
	}
	return k.Conv1D(k.float("x", s.rows(), s.d), k.float("w", s.d, s.taps), biasD, k.docs(s.b, s.l), stateN, s.b, s.l)
}

func scan(k *kit, s size, state bool) (y, final *G.Node) {
	in := ScanInputs{
		X: k.float("x", s.rows(), s.d), Dt: k.float("dt", s.rows(), s.d), Bias: k.float("bias", s.d),
		ALog: k.float("alog", s.d, s.n), B: k.float("b", s.rows(), s.n), C: k.float("c", s.rows(), s.n),
		D: k.float("d", s.d), Z: k.float("z", s.rows(), s.d), Docs: k.docs(s.b, s.l),
	}
	if state {
		in.State = k.float("state", s.b, s.d, s.n)
	}
	return k.SelectiveScan(in, s.b, s.l, s.chunk)
}

// index draws k different experts a token; expert 1 gets none.
func index(k *kit, s size) *G.Node {
	var all []int
	for t := 0; t < s.rows(); t++ {
		chosen := 0
		for _, e := range k.rng.Perm(s.e) {
			if e != 1 && chosen < s.k {
				all = append(all, e)
				chosen++
			}
		}
	}
	return k.ints("index", all, s.rows(), s.k)
}

func routing(k *kit, s size) Routing { return k.ExpertSort(index(k, s), s.e) }

func aux(k *kit, s size, scope AuxScope) (outs, rest nodes) {
	var probs, chosen nodes
	for _, name := range []string{"first", "second"} {
		p, _, i := k.RouterTopK(k.float(name, s.rows(), s.e), s.k, false)
		probs, chosen = append(probs, p), append(chosen, i)
	}
	loss, load := k.RouterAux(probs, chosen, k.docs(s.b, s.l), scope)
	return nodes{loss}, nodes{load}
}

// moe is a whole layer of experts with its load-balancing loss.
func moe(k *kit, s size) (outs, rest nodes) {
	x := k.float("x", s.rows(), s.h)
	defer k.Layer(0)()
	probs, weights, index := k.RouterTopK(k.MatMul(x, k.float("router", s.e, s.h), false, true), s.k, false)
	r := k.ExpertSort(index, s.e)
	gu := k.GroupedMatMul(k.Dispatch(x, r), k.float("gu", s.e, 2*s.i, s.h), r)
	ys := k.GroupedMatMul(k.SwiGLU(gu), k.float("down", s.e, s.h, s.i), r)
	loss, load := k.RouterAux(nodes{probs}, nodes{index}, k.docs(s.b, s.l), AuxSequence)
	return nodes{k.Combine(ys, weights, r), loss}, nodes{load}
}

func adamw(k *kit, s size, clip float64, hyper []float64, narrows bool) (outs, rest nodes) {
	n := s.rows() * s.h
	v := k.fixed("v", n)
	for i, x := range k.values[v] {
		k.values[v][i] = x * x
	}
	g := k.fixed("g", n)
	h := k.keep(k.Input("hyper", 4), hyper)
	sumsq := k.SumSquares(g)
	c := AdamWConfig{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: 0.1, Clip: clip}
	var narrow *G.Node
	if narrows {
		narrow = k.fixed("narrow", n)
	}
	return nil, append(k.AdamW(k.fixed("p", n), k.fixed("m", n), v, g, sumsq, h, narrow, c), sumsq)
}
