package model_test

import (
	"fmt"
	"math"

	G "gorgonia.org/gorgonia"

	"jambalaya/model/op"
)

// conformanceCases are all operators at many shapes: odd ones, one token, an
// expert without tokens, several documents, initial states.
func conformanceCases() []conformance {
	var cases []conformance
	add := func(name string, build func(b *builder) []*G.Node, loose ...float64) {
		c := conformance{name: name, build: build, loose: 1}
		if len(loose) > 0 {
			c.loose = loose[0]
		}
		cases = append(cases, c)
	}
	one := func(x *G.Node) []*G.Node { return []*G.Node{x} }
	elementwiseCases(add, one)
	mixtureCases(add, one)
	sequenceCases(add, one)
	optimiserCases(add)
	return cases
}

// adder adds a case; loose multiplies its tolerance.
type adder func(name string, build func(b *builder) []*G.Node, loose ...float64)

func elementwiseCases(add adder, one func(*G.Node) []*G.Node) {
	for _, s := range [][2]int{{1, 3}, {7, 13}, {64, 256}, {300, 1030}} {
		rows, n := s[0], s[1]
		at := fmt.Sprintf("/%dx%d", rows, n)
		add("add"+at, func(b *builder) []*G.Node { return one(b.Add(b.normal(1, rows, n), b.normal(1, rows, n))) })
		add("add_bias"+at, func(b *builder) []*G.Node { return one(b.AddBias(b.normal(1, rows, n), b.normal(1, n))) })
		add("rms_norm"+at, func(b *builder) []*G.Node { return one(b.RMSNorm(b.normal(1, rows, n), b.normal(1, n), 1e-6)) })
		add("add_rms_norm"+at, func(b *builder) []*G.Node {
			y, sum := b.AddRMSNorm(b.normal(1, rows, n), b.normal(1, rows, n), b.normal(1, n), 1e-5)
			return []*G.Node{y, sum}
		})
		add("swiglu"+at, func(b *builder) []*G.Node { return one(b.SwiGLU(b.normal(2, rows, 2*n))) })
		add("cross_entropy"+at, func(b *builder) []*G.Node {
			targets := b.below(n, 1, rows)
			for i := range b.values[targets] {
				if i%5 == 4 {
					b.values[targets][i] = op.IgnoreTarget
				}
			}
			loss, nll := b.CrossEntropy(b.normal(3, rows, n), targets)
			_ = nll
			return one(loss)
		})
		for i := range 4 {
			ta, tb := i&1 != 0, i&2 != 0
			k := n/2 + 3
			add(fmt.Sprintf("matmul%s/%t%t", at, ta, tb), func(b *builder) []*G.Node {
				x, y := []int{rows, k}, []int{k, n}
				if ta {
					x = []int{k, rows}
				}
				if tb {
					y = []int{n, k}
				}
				return one(b.MatMul(b.normal(1, x...), b.normal(1, y...), ta, tb))
			})
		}
	}
	for _, s := range [][3]int{{1, 3, 2}, {5, 3, 4}, {129, 48, 16}} {
		for _, norm := range []bool{true, false} {
			add(fmt.Sprintf("split_norm/%v/%t", s, norm), func(b *builder) []*G.Node {
				rows, rank, states := s[0], s[1], s[2]
				p := b.normal(1, rows, rank+2*states)
				var w [3]*G.Node
				if norm {
					w = [3]*G.Node{b.normal(1, rank), b.normal(1, states), b.normal(1, states)}
				}
				dt, bm, cm := b.SplitNorm(p, w[0], w[1], w[2], rank, states, 1e-6)
				return []*G.Node{dt, bm, cm}
			})
		}
	}
	for _, s := range [][3]int{{1, 1, 1}, {5, 9, 3}, {300, 37, 64}, {700, 1000, 40}, {2500, 70000, 8}} {
		add(fmt.Sprintf("embedding/%v", s), func(b *builder) []*G.Node {
			return one(b.Embedding(b.normal(1, s[1], s[2]), b.below(s[1], 1, s[0]), s[1]/2))
		})
	}
}

func mixtureCases(add adder, one func(*G.Node) []*G.Node) {
	for _, s := range []struct{ tokens, experts, k, h, n int }{{1, 2, 1, 3, 5}, {9, 4, 2, 8, 16}, {130, 8, 2, 32, 48}, {3000, 16, 4, 20, 12},
		{257, 40, 3, 136, 264}} {
		at := fmt.Sprintf("/%v", s)
		for _, renormalise := range []bool{false, true} {
			add(fmt.Sprintf("router_topk%s/%t", at, renormalise), func(b *builder) []*G.Node {
				probs, weights, _ := b.RouterTopK(b.fp32(b.normal(1, s.tokens, s.experts)), s.k, renormalise)
				return []*G.Node{probs, weights}
			})
		}
		add("experts"+at, func(b *builder) []*G.Node {
			index := b.distinct(s.experts, s.k, s.tokens)
			r := b.ExpertSort(index, s.experts)
			xs := b.Dispatch(b.normal(1, s.tokens, s.h), r)
			ys := b.GroupedMatMul(xs, b.normal(1/math.Sqrt(float64(s.h)), s.experts, s.n, s.h), r)
			return one(b.Combine(ys, b.fp32(b.normal(1, s.tokens, s.k)), r))
		})
		add("expert_sort"+at, func(b *builder) []*G.Node {
			r := b.ExpertSort(b.distinct(s.experts, s.k, s.tokens), s.experts)
			return []*G.Node{r.Slot, r.Source, r.Offsets}
		})
		for _, batch := range []int{1, s.tokens} {
			length := s.tokens / batch
			add(fmt.Sprintf("expert_capacity%s/%d", at, batch), func(b *builder) []*G.Node {
				limited, drops := b.ExpertCapacity(b.fp32(b.normal(1, s.tokens, s.k)), b.distinct(s.experts, s.k, s.tokens),
					b.docs(batch, length, 50), s.experts, op.Capacity(0.8, length, s.k, s.experts))
				return []*G.Node{limited, drops}
			})
		}
		for _, scope := range []op.AuxScope{op.AuxBatch, op.AuxSequence} {
			add(fmt.Sprintf("router_aux%s/%d", at, scope), func(b *builder) []*G.Node {
				batch := 1
				if s.tokens%2 == 0 {
					batch = 2
				}
				docs := b.docs(batch, s.tokens/batch, 50)
				var probs, index []*G.Node
				for range 3 {
					p, _, i := b.RouterTopK(b.fp32(b.normal(1, s.tokens, s.experts)), s.k, false)
					probs, index = append(probs, p), append(index, i)
				}
				aux, _ := b.RouterAux(probs, index, docs, scope)
				return one(aux)
			}, 4)
		}
	}
}

// distinct draws k of all experts but the last for each token, so that one stays
// without any where there are enough.
func (b *builder) distinct(experts, k, tokens int) *G.Node {
	var v []float64
	for range tokens {
		for _, e := range b.rng.Perm(max(experts-1, k))[:k] {
			v = append(v, float64(e))
		}
	}
	return b.ints(v, tokens, k)
}

func sequenceCases(add adder, one func(*G.Node) []*G.Node) {
	for _, s := range []struct{ batch, length, dim, taps, mean int }{{1, 1, 1, 4, 5}, {2, 3, 5, 4, 2}, {3, 150, 33, 4, 9}, {1, 67, 300, 2, 30},
		{2, 20, 8, 1, 5}} {
		for i := range 4 {
			bias, state := i&1 != 0, i&2 != 0
			add(fmt.Sprintf("conv1d/%v/%t%t", s, bias, state), func(b *builder) []*G.Node {
				x, w := b.normal(1, s.batch*s.length, s.dim), b.normal(0.5, s.dim, s.taps)
				var biasD, stateD *G.Node
				if bias {
					biasD = b.normal(0.5, s.dim)
				}
				docs := b.docs(s.batch, s.length, s.mean)
				if state && s.taps > 1 {
					stateD = b.fp32(b.normal(1, s.batch, s.taps-1, s.dim))
				}
				y, final := b.Conv1D(x, w, biasD, docs, stateD, s.batch, s.length)
				if s.taps == 1 || !state {
					return one(y)
				}
				return []*G.Node{y, final}
			})
		}
	}
	for _, s := range []struct{ batch, length, dim, states, chunk, mean int }{{1, 1, 1, 1, 4, 5}, {2, 7, 3, 4, 4, 3}, {2, 100, 70, 16, 32, 40},
		{1, 333, 20, 16, 16, 1000}, {3, 65, 129, 6, 32, 20}, {1, 2049, 5, 16, 32, 300}, {1, 40, 12, 64, 8, 11},
		{1, 65536, 3, 16, 32, 5000}, {16, 70, 256, 16, 32, 20}, {2, 37, 9, 5, 32, 11}} {
		for _, state := range []bool{false, true} {
			add(fmt.Sprintf("selective_scan/%v/%t", s, state), func(b *builder) []*G.Node { return b.scan(s.batch, s.length, s.dim, s.states, s.chunk, s.mean, state) })
		}
	}
	for _, s := range []struct{ batch, length, heads, kv, dim, mean int }{{1, 1, 1, 1, 8, 5}, {2, 17, 4, 2, 20, 6}, {1, 130, 4, 1, 64, 50},
		{2, 200, 2, 2, 128, 1000}, {1, 70, 2, 1, 192, 30}, {1, 577, 4, 2, 128, 150}, {2, 300, 2, 1, 64, 3},
		{2, 150, 4, 2, 96, 60}} {
		h := op.Heads{Heads: s.heads, KVHeads: s.kv, HeadDim: s.dim}
		at := fmt.Sprintf("/%v", s)
		add("attention"+at, func(b *builder) []*G.Node {
			return one(b.Attention(b.normal(1, s.batch*s.length, h.Width()), b.docs(s.batch, s.length, s.mean), h))
		})
		for _, offset := range []bool{false, true} {
			add(fmt.Sprintf("rope%s/%t", at, offset), func(b *builder) []*G.Node {
				var pos *G.Node
				if offset {
					pos = b.ints([]float64{70001}, 1)
				}
				return one(b.Rope(b.normal(1, s.batch*s.length, h.Width()), b.docs(s.batch, s.length, s.mean), pos, h, 10000))
			})
		}
		add("attention_cached"+at, func(b *builder) []*G.Node {
			capacity, w := s.length+40, s.kv*s.dim
			out, keys, values := b.CachedAttention(b.constant(1, s.batch*s.length, h.Width()), b.constant(1, s.batch, capacity, w),
				b.constant(1, s.batch, capacity, w), b.ints([]float64{37}, 1), h)
			return []*G.Node{out, keys, values}
		})
	}
}

func (b *builder) scan(batch, length, dim, states, chunk, mean int, state bool) []*G.Node {
	rows := batch * length
	in := op.ScanInputs{X: b.normal(1, rows, dim), Dt: b.normal(1, rows, dim), Bias: b.fp32(b.normal(1, dim)), ALog: b.fp32(b.normal(1, dim, states)),
		B: b.normal(1, rows, states), C: b.normal(1, rows, states), D: b.fp32(b.normal(1, dim)), Z: b.normal(1, rows, dim), Docs: b.docs(batch, length, mean)}
	if state {
		in.State = b.fp32(b.normal(1, batch, dim, states))
	}
	y, final := b.SelectiveScan(in, batch, length, chunk)
	if !state {
		return []*G.Node{y}
	}
	return []*G.Node{y, final}
}

func optimiserCases(add adder) {
	for _, n := range []int{1, 1000, 100003} {
		add(fmt.Sprintf("narrow/%d", n), func(b *builder) []*G.Node { return []*G.Node{b.Narrow(b.fp32(b.constant(1, n)), b.constant(1, n))} })
		for _, grad := range []float64{1, math.Inf(1)} {
			add(fmt.Sprintf("adamw/%d/%v", n, grad), func(b *builder) []*G.Node {
				p, m, g := b.fp32(b.constant(1, n)), b.fp32(b.constant(1, n)), b.constant(1, n)
				v := b.fp32(b.constant(1, n))
				for i, x := range b.values[v] {
					b.values[v][i] = x * x
				}
				if math.IsInf(grad, 1) {
					b.values[g][n/2] = grad
				}
				squares := b.SumSquares(g)
				hyper := b.fp32(b.with([]float64{1e-3, 0.1, 0.05, 1}, 4))
				return b.AdamW(p, m, v, g, squares, hyper, b.constant(1, n), op.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Clip: 1})
			})
		}
	}
}
