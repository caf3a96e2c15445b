package simd

import (
	"math"
	"slices"
	"sort"
	"testing"
)

// softmaxRef is the softmax of each row.
func softmaxRef(x []float64, width int) []float64 {
	y := make([]float64, len(x))
	for at := 0; at < len(x); at += width {
		sum := 0.0
		for i, v := range x[at:][:width] {
			y[at+i] = math.Exp(v)
			sum += y[at+i]
		}
		for i := range width {
			y[at+i] /= sum
		}
	}
	return y
}

func TestRouterTopK(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, e := range []int{1, 3, 4, 8, 16, 19} {
			for k := 1; k <= min(e, 3); k++ {
				for _, renormalise := range []bool{false, true} {
					for _, rows := range []int{5, 21} {
						testRouterTopK(t, rows, e, k, renormalise)
					}
				}
			}
		}
	})
}

func testRouterTopK(t *testing.T, rows, e, k int, renormalise bool) {
	s := newSource(t)
	logits, probs, weights := s.normal(rows*e, 1), s.junk(rows*e), s.junk(rows*k)
	clear(logits[e : 2*e]) // all equal: the lowest experts win
	copy(logits[2*e:], []float32{1, 1, 2}[:min(e, 3)])
	if e > 1 {
		logits[3*e] = float32(math.Inf(-1)) // never among the first
	}
	index := guarded[int32](t, rows*k)
	RouterTopK(probs, weights, index, logits, s.junk(RouterWork(e)), e, k, renormalise)
	ll := wide(logits)
	p := softmaxRef(ll, e)
	near(t, "probs", probs, p, 1e-6)
	chosen := func() []float64 { // the weights of the experts that index names
		p, w := softmaxRef(ll, e), []float64(nil)
		for t := range rows {
			sum := 1.0
			if renormalise {
				sum = 0
				for _, x := range index[t*k:][:k] {
					sum += p[t*e+int(x)]
				}
			}
			for _, x := range index[t*k:][:k] {
				w = append(w, p[t*e+int(x)]/sum)
			}
		}
		return w
	}
	for t0 := range rows {
		order := make([]int, e)
		for i := range order {
			order[i] = i
		}
		sort.SliceStable(order, func(i, j int) bool { return logits[t0*e+order[i]] > logits[t0*e+order[j]] })
		for i, x := range index[t0*k:][:k] {
			if int(x) != order[i] {
				t.Fatalf("row %d chose %v, want %v", t0, index[t0*k:][:k], order[:k])
			}
		}
	}
	near(t, "weights", weights, chosen(), 1e-6)

	dprobs, dweights, dlogits := s.normal(rows*e, 1), s.normal(rows*k, 1), s.junk(rows*e)
	for _, with := range [][2][]float32{{dprobs, dweights}, {nil, dweights}, {dprobs, nil}} {
		want := numericGrad(ll, func() (sum float64) {
			if with[0] != nil {
				sum += inner(softmaxRef(ll, e), wide(dprobs))
			}
			if with[1] != nil {
				sum += inner(chosen(), wide(dweights))
			}
			return sum
		})
		RouterTopKGrad(dlogits, probs, weights, index, with[0], with[1], s.junk(rows*k), e, k, renormalise)
		for i, w := range want {
			if math.Abs(float64(dlogits[i])-w) > 2e-6 {
				t.Fatalf("dlogits[%d] of %d experts = %g, want %g", i, e, dlogits[i], w)
			}
		}
	}
}

func TestRouterTopKNaN(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		nan := float32(math.NaN())
		for _, rows := range []int{1, 16} {
			probs, weights, index, logits := make([]float32, 4*rows), make([]float32, 2*rows), make([]int32, 2*rows), make([]float32, 4*rows)
			for i := range logits {
				logits[i] = []float32{nan, 1, nan, nan}[i%4]
			}
			RouterTopK(probs, weights, index, logits, make([]float32, RouterWork(4)), 4, 2, false)
			for i := 0; i < len(index); i += 2 {
				if index[i] == index[i+1] || min(index[i], index[i+1]) < 0 || max(index[i], index[i+1]) > 3 {
					t.Errorf("experts %v for logits with NaN: want two that exist", index[i:i+2])
				}
				if weights[i] == weights[i] || probs[2*i] == probs[2*i] {
					t.Errorf("weights %v, probabilities %v: want NaN", weights[i:i+2], probs[2*i:2*i+4])
				}
			}
		}
	})
}

// sortExperts sorts the assignments of index, those before cut and the others by themselves.
func sortExperts(t *testing.T, index []int32, experts, cut int) (slot, source []int32) {
	parts := [][]int32{index[:cut], index[cut:]}
	slot, source = guarded[int32](t, len(index)), guarded[int32](t, len(index))
	next := [][]int32{guarded[int32](t, experts), guarded[int32](t, experts)}
	for i, x := range parts {
		ExpertCount(next[i], x)
	}
	row := int32(0)
	for e := range experts {
		for i := range parts {
			next[i][e], row = row, row+next[i][e]
		}
	}
	if int(row) != len(index) {
		t.Fatalf("%d of %d assignments to %d experts counted", row, len(index), experts)
	}
	ExpertPlace(slot[:cut], source, next[0], parts[0], 0)
	ExpertPlace(slot[cut:], source, next[1], parts[1], int32(cut))
	return slot, source
}

func TestExpertSort(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, n := range append(sizes, 1000) {
			for _, experts := range []int{1, 3, 8, 11, 16, comparedExperts + 1} {
				s := newSource(t)
				index, order := guarded[int32](t, n), make([]int32, n)
				for i := range index {
					index[i], order[i] = int32(s.IntN(experts)), int32(i)
				}
				slices.SortStableFunc(order, func(a, b int32) int { return int(index[a] - index[b]) })
				slot, source := sortExperts(t, index, experts, n/3)
				if !slices.Equal(source, order) {
					t.Fatalf("assignments %v to %d experts in the order %v, want %v", index, experts, source, order)
				}
				for i, row := range slot {
					if source[row] != int32(i) {
						t.Fatalf("slot %v is not the inverse of source %v", slot, source)
					}
				}
			}
		}
		counts := make([]int32, 2)
		if ExpertCount(counts, []int32{1, 2, -1, 0, 1}); counts[0] != 1 || counts[1] != 2 {
			t.Errorf("counts %v, want 1 and 2", counts)
		}
	})
}

func TestExperts(t *testing.T) {
	defer func(n int) { streamedFloats = n }(streamedFloats)
	eachLevel(t, func(t *testing.T) {
		for _, k := range []int{1, 2, 3} {
			for _, h := range []int{1, 16, 37, 80, 144} {
				for _, streamedFloats = range []int{1, math.MaxInt} {
					testExperts(t, 6, k, h, 4)
				}
			}
		}
	})
}

func testExperts(t *testing.T, rows, k, h, experts int) {
	s := newSource(t)
	index := guarded[int32](t, rows*k)
	for i := range index {
		index[i] = int32(s.IntN(experts-1) + i%2) // expert 0 or 3 may be empty
	}
	slot, _ := sortExperts(t, index, experts, 0)

	x, xs, dx := s.normal(rows*h, 1), s.junk(rows*k*h), s.junk(rows*h)
	ys, weights, y := s.normal(rows*k*h, 1), s.normal(rows*k, 1), s.junk(rows*h)
	dys, dweights := s.junk(rows*k*h), s.junk(rows*k)
	wantXs, wantDx, wantY := make([]float64, rows*k*h), make([]float64, rows*h), make([]float64, rows*h)
	wantDys, wantDw := make([]float64, rows*k*h), make([]float64, rows*k)
	for i, row := range slot {
		for c := range h {
			at, tok := int(row)*h+c, i/k*h+c
			wantXs[at] = float64(x[tok])
			wantDx[tok] += float64(ys[at])
			wantY[tok] += float64(weights[i]) * float64(ys[at])
			wantDys[at] = float64(weights[i]) * float64(x[tok])
			wantDw[i] += float64(ys[at]) * float64(x[tok])
		}
	}
	Dispatch(xs, x, slot, k, h)
	near(t, "xs", xs, wantXs, 0)
	DispatchGrad(dx, ys, slot, k, h)
	near(t, "dx", dx, wantDx, 1e-6)
	Combine(y, ys, weights, slot, k, h)
	near(t, "y", y, wantY, 1e-6)
	CombineGrad(dys, dweights, ys, weights, x, slot, k, h)
	near(t, "dys", dys, wantDys, 1e-6)
	near(t, "dweights", dweights, wantDw, 1e-6)
}

func TestRouterLoad(t *testing.T) {
	load, mean := make([]float64, 2), make([]float64, 2)
	docs := []int32{0, 0, -1}
	tokens := RouterLoad(load, mean, []float32{0.25, 0.75, 0.5, 0.5, 1, 0}, []int32{1, 0, 0}, docs, 1)
	if tokens != 2 || load[0] != 1 || load[1] != 1 || mean[0] != 0.75 || mean[1] != 1.25 {
		t.Errorf("%d tokens, load %v, sums %v", tokens, load, mean)
	}
	d := []float32{9, 9, 9, 9, 9, 9}
	RouterLoadGrad(d, []float32{1, 2}, docs)
	if want := []float32{1, 2, 1, 2, 0, 0}; !slices.Equal(d, want) {
		t.Errorf("gradient %v, want %v", d, want)
	}
}
