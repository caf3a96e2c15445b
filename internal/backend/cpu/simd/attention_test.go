package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// attentionCase is one sequence with its reference results in float64.
type attentionCase struct {
	Attention
	qkv, dout []float32
	docs      []int32

	out, lse, dqkv []float64
}

func newAttentionCase(t testing.TB, a Attention, documents ...int) *attentionCase {
	rng := rand.New(rand.NewPCG(uint64(a.Length), uint64(a.HeadDim)))
	random := func(n int) []float32 {
		x := guarded[float32](t, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		return x
	}
	c := &attentionCase{Attention: a, qkv: random(a.Length * a.width()), dout: random(a.Length * a.outWidth())}
	c.docs = guarded[int32](t, a.Length)
	for i := range c.docs {
		for _, start := range documents {
			if i >= start {
				c.docs[i]++
			}
		}
	}
	c.reference()
	return c
}

func (c *attentionCase) reference() {
	c.out, c.lse = make([]float64, c.Length*c.outWidth()), make([]float64, c.Heads*c.Length)
	c.dqkv = make([]float64, c.Length*c.width())
	d, scale := c.HeadDim, 1/math.Sqrt(float64(c.HeadDim))
	at := func(x []float32, i, col int) float64 { return float64(x[i*c.width()+col]) }
	for h := range c.Heads {
		q, k, v := c.query(h), c.key(c.kvHead(h)), c.value(c.kvHead(h))
		for i := range c.Length {
			first := documentStart(c.docs, i)
			p, sum := make([]float64, i+1), 0.0
			for j := first; j <= i; j++ {
				for x := range d {
					p[j] += at(c.qkv, i, q+x) * at(c.qkv, j, k+x) * scale
				}
				sum += math.Exp(p[j])
			}
			c.lse[h*c.Length+i] = math.Log(sum)
			g, o := c.dout[i*c.outWidth()+q:][:d], c.out[i*c.outWidth()+q:][:d]
			dp, mean := make([]float64, i+1), 0.0
			for j := first; j <= i; j++ {
				p[j] = math.Exp(p[j]) / sum
				for x := range d {
					o[x] += p[j] * at(c.qkv, j, v+x)
					dp[j] += float64(g[x]) * at(c.qkv, j, v+x)
					c.dqkv[j*c.width()+v+x] += p[j] * float64(g[x])
				}
				mean += p[j] * dp[j]
			}
			for j := first; j <= i; j++ {
				ds := p[j] * (dp[j] - mean) * scale
				for x := range d {
					c.dqkv[i*c.width()+q+x] += ds * at(c.qkv, j, k+x)
					c.dqkv[j*c.width()+k+x] += ds * at(c.qkv, i, q+x)
				}
			}
		}
	}
}

func (c *attentionCase) forward(t testing.TB) (out, lse []float32) {
	var ws Workspace
	out, lse = guarded[float32](t, len(c.out)), guarded[float32](t, len(c.lse))
	work := guarded[float32](t, c.WorkLen())
	for kvHead := range c.KVHeads {
		kv := c.NewKV(guarded[float32](t, c.KVLen()))
		c.Pack(kv, c.qkv, kvHead)
		for h := kvHead * c.group(); h < (kvHead+1)*c.group(); h++ {
			for block := range c.Blocks() {
				c.Forward(&ws, work, out, lse[h*c.Length:], c.qkv, c.docs, kv, h, block)
			}
		}
	}
	return out, lse
}

func (c *attentionCase) backward(t testing.TB, out, lse []float32) []float32 {
	var ws Workspace
	dqkv := guarded[float32](t, len(c.dqkv))
	work := guarded[float32](t, c.GradWorkLen())
	for kvHead := range c.KVHeads {
		for i := range work {
			work[i] = float32(math.NaN()) // what earlier calls left must not matter
		}
		c.Backward(&ws, work, dqkv, c.qkv, c.docs, out, lse, c.dout, kvHead)
	}
	return dqkv
}

func attentionCases(t testing.TB) []*attentionCase {
	return []*attentionCase{
		newAttentionCase(t, Attention{1, 1, 1, 1}),
		newAttentionCase(t, Attention{5, 2, 1, 3}, 2),
		newAttentionCase(t, Attention{33, 2, 2, 16}),
		newAttentionCase(t, Attention{70, 4, 2, 20}, 1, 31, 34, 64),
		newAttentionCase(t, Attention{100, 3, 1, 32}, 50),
		newAttentionCase(t, Attention{129, 2, 1, 70}, 40, 41, 42, 90),
	}
}

func TestAttention(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		for _, c := range attentionCases(t) {
			name := fmt.Sprintf("%+v", c.Attention)
			out, lse := c.forward(t)
			closeTo(t, name+" out", out, c.out, 2e-6)
			closeTo(t, name+" lse", lse, c.lse, 2e-6)
			closeTo(t, name+" dqkv", c.backward(t, out, lse), c.dqkv, 2e-5)
		}
	})
}

func closeTo(t *testing.T, name string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	for i, w := range want {
		if !(math.Abs(float64(got[i])-w) <= tolerance*(1+math.Abs(w))) {
			t.Fatalf("%s: element %d is %v, want %v", name, i, got[i], w)
		}
	}
}

// A sequence that is fed to the cache in pieces gives what Forward gives for one document.
func TestAttentionCached(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		for _, a := range []Attention{{50, 4, 2, 16}, {77, 2, 1, 24}} {
			c := newAttentionCase(t, a)
			w, capacity := a.KVHeads*a.HeadDim, a.Length+3
			cache := AttentionCache{guarded[float32](t, capacity*w), guarded[float32](t, capacity*w)}
			out := guarded[float32](t, len(c.out))
			work := guarded[float32](t, a.CachedWorkLen(capacity))
			var ws Workspace
			pos := 0
			for _, n := range []int{1, 40, 1, a.Length - 42} {
				piece := a
				piece.Length = n
				qkv := c.qkv[pos*a.width():]
				piece.Store(cache, qkv, pos)
				for h := range a.Heads {
					for block := range piece.Blocks() {
						piece.Cached(&ws, work, out[pos*a.outWidth():], qkv, cache, pos, h, block)
					}
				}
				pos += n
			}
			closeTo(t, fmt.Sprintf("%+v", a), out, c.out, 2e-6)
		}
	})
}

func BenchmarkAttention(b *testing.B) {
	c := newAttentionCase(b, Attention{512, 4, 2, 64})
	out, lse := c.forward(b)
	var ws Workspace
	work := make([]float32, max(c.WorkLen(), c.GradWorkLen()))
	kv := c.NewKV(make([]float32, c.KVLen()))
	dqkv := make([]float32, len(c.dqkv))
	pairs := float64(c.Heads * c.Length * (c.Length + 1) / 2)
	b.Run("forward", func(b *testing.B) {
		for b.Loop() {
			for h := range c.Heads {
				if h%c.group() == 0 {
					c.Pack(kv, c.qkv, c.kvHead(h))
				}
				for block := range c.Blocks() {
					c.Forward(&ws, work, out, lse[h*c.Length:], c.qkv, c.docs, kv, h, block)
				}
			}
		}
		b.ReportMetric(4*float64(c.HeadDim)*pairs*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	})
	b.Run("backward", func(b *testing.B) {
		for b.Loop() {
			for kvHead := range c.KVHeads {
				c.Backward(&ws, work, dqkv, c.qkv, c.docs, out, lse, c.dout, kvHead)
			}
		}
		b.ReportMetric(10*float64(c.HeadDim)*pairs*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	})
}
