package simd

import (
	"math"
	"testing"
)

func TestCrossEntropy(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, vocab := range []int{1, 2, 16, 33, 256, 300} {
			s := newSource(t)
			const rows = 4
			logits, dlogits, nll, lse := s.normal(rows*vocab, 3), s.junk(rows*vocab), s.junk(rows), s.junk(rows)
			targets := guarded[int32](t, rows)
			copy(targets, []int32{0, int32(vocab - 1), -100, int32(vocab / 2)})
			CrossEntropy(nll, lse, logits, targets, vocab)
			CrossEntropyGrad(dlogits, logits, lse, targets, 0.5, vocab)
			p := softmaxRef(wide(logits), vocab)
			wantN, wantL, wantD := make([]float64, rows), make([]float64, rows), make([]float64, rows*vocab)
			for r, target := range targets {
				row := wide(logits[r*vocab:][:vocab])
				for _, v := range row {
					wantL[r] += math.Exp(v)
				}
				wantL[r] = math.Log(wantL[r])
				if target < 0 {
					continue
				}
				wantN[r] = wantL[r] - row[target]
				for i := range vocab {
					wantD[r*vocab+i] = 0.5 * p[r*vocab+i]
				}
				wantD[r*vocab+int(target)] -= 0.5
			}
			near(t, "lse", lse, wantL, 3e-7)
			if vocab > 1 {
				near(t, "nll", nll, wantN, 3e-7)
				near(t, "dlogits", dlogits, wantD, 2e-6)
			}
			CrossEntropyGrad(logits, logits, lse, targets, 0.5, vocab)
			for i, v := range logits {
				if v != dlogits[i] {
					t.Fatalf("in place, dlogits[%d] = %g, want %g", i, v, dlogits[i])
				}
			}
		}
	})
}

func TestCrossEntropyInfinities(t *testing.T) {
	inf := float32(math.Inf(1))
	eachLevel(t, func(t *testing.T) {
		for _, c := range []struct {
			logits []float32
			want   float64
		}{
			{[]float32{0, -inf, 0, -inf}, math.Ln2}, // masked logits
			{[]float32{0, inf, 0, 0}, math.Inf(1)},
			{[]float32{0, float32(math.NaN()), 0, 0}, math.NaN()},
		} {
			nll, lse := make([]float32, 1), make([]float32, 1)
			CrossEntropy(nll, lse, c.logits, []int32{0}, 4)
			if got := float64(nll[0]); !(math.Abs(got-c.want) < 1e-6 || got == c.want || c.want != c.want && got != got) {
				t.Errorf("loss of %v is %g, want %g", c.logits, got, c.want)
			}
		}
	})
}

func TestEmbedding(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		s := newSource(t)
		const vocab, h, rows, pad = 5, 37, 9, 2
		table, y, dy, dtable := s.normal(vocab*h, 1), s.junk(rows*h), s.normal(rows*h, 1), s.junk(vocab*h)
		ids := guarded[int32](t, rows)
		want, wantD := make([]float64, rows*h), make([]float64, vocab*h)
		for i := range ids {
			ids[i] = int32(s.IntN(vocab - 1)) // the last row gets none
			for c := range h {
				want[i*h+c] = float64(table[int(ids[i])*h+c])
				if ids[i] != pad {
					wantD[int(ids[i])*h+c] += float64(dy[i*h+c])
				}
			}
		}
		Embedding(y, table, ids, h)
		near(t, "y", y, want, 0)
		for part := range 4 {
			EmbeddingGrad(dtable, dy, ids, pad, h, part, 4)
		}
		near(t, "dtable", dtable, wantD, 1e-6)
	})
}

func TestRope(t *testing.T) {
	s := newSource(t)
	const theta, rows = 10000.0, 7
	for _, l := range []RopeHeads{{Rotated: 3, HeadDim: 8, Copied: 8}, {Rotated: 1, HeadDim: 2}, {Rotated: 2, HeadDim: 34, Copied: 34}} {
		ld, half := l.Rotated*l.HeadDim+l.Copied, l.HeadDim/2
		x, y := s.normal(rows*ld, 1), s.junk(rows*ld)
		cos, sin := s.junk(10*half), s.junk(10*half)
		RopeTable(cos, sin, 0, theta, l.HeadDim)
		docs := []int32{0, 0, 1, 1, 1, -1, -1}
		want := wide(x)
		for r, pos := range []int{0, 1, 0, 1, 2, 0, 1} {
			for h := range l.Rotated {
				for i := range half {
					angle := float64(pos) * math.Pow(theta, -2*float64(i)/float64(l.HeadDim))
					a, b := r*ld+h*l.HeadDim+i, r*ld+h*l.HeadDim+i+half
					want[a], want[b] = want[a]*math.Cos(angle)-want[b]*math.Sin(angle), want[b]*math.Cos(angle)+want[a]*math.Sin(angle)
				}
			}
		}
		Rope(y, x, cos, sin, docs, l, false)
		near(t, "y", y, want, 3e-7)
		Rope(y, y, cos, sin, docs, l, true)
		near(t, "x", y, wide(x), 3e-7)
	}
}
