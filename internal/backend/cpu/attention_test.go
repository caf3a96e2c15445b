package cpu

import (
	"strings"
	"testing"

	"jambalaya/internal/backend/cpu/simd"
	"jambalaya/internal/engine"
)

var testHeads = struct{ batch, length, heads, kvHeads, headDim, capacity int }{3, 70, 4, 2, 24, 90}

func headAttrs(length int) []engine.Attr {
	h := testHeads
	var attrs []engine.Attr
	for name, v := range map[string]int{"batch": h.batch, "length": length, "heads": h.heads,
		"kv_heads": h.kvHeads, "head_dim": h.headDim, "capacity": h.capacity} {
		attrs = append(attrs, engine.Attr{Name: name, Value: float64(v)})
	}
	return attrs
}

// The kernels give, on any number of workers, the bits of the serial routines, which have tests of their own.
func TestAttention(t *testing.T) {
	t.Parallel()
	h := testHeads
	a := simd.Attention{Length: h.length, Heads: h.heads, KVHeads: h.kvHeads, HeadDim: h.headDim}
	width, outWidth, rows := (h.heads+2*h.kvHeads)*h.headDim, h.heads*h.headDim, h.batch*h.length
	docs := make([]int32, rows)
	for i := range docs {
		docs[i] = int32(i % h.length / (20 + i/h.length))
	}
	for _, be := range testBackends(t) {
		fw := newTestCall(t, be, "attention", headAttrs(h.length)...)
		qkv := fw.in(rows, width)
		fw.inInts(docs, h.batch, h.length)
		out, lse := fw.out(rows, outWidth), fw.out(h.batch, h.heads, h.length)
		fw.bind()()

		bw := newTestCall(t, be, "attention_grad", headAttrs(h.length)...)
		copy(bw.in(rows, width), qkv)
		bw.inInts(docs, h.batch, h.length)
		copy(bw.in(rows, outWidth), out)
		copy(bw.in(h.batch, h.heads, h.length), lse)
		dout := bw.in(rows, outWidth)
		dqkv := bw.out(rows, width)
		bw.bind()()

		var ws simd.Workspace
		kv := a.NewKV(make([]float32, a.KVLen()))
		work := make([]float32, max(a.WorkLen(), a.GradWorkLen()))
		wantOut, wantLse, wantDqkv := make([]float32, len(out)), make([]float32, len(lse)), make([]float32, len(dqkv))
		for s := range h.batch {
			q, d := row(qkv, s, h.length, width), row(docs, s, h.length, 1)
			o, l := row(wantOut, s, h.length, outWidth), row(wantLse, s, h.length, h.heads)
			for head := range h.heads {
				a.Pack(kv, q, head/(h.heads/h.kvHeads))
				for block := range a.Blocks() {
					a.Forward(&ws, work, o, l[head*h.length:], q, d, kv, head, block)
				}
			}
			for kvHead := range h.kvHeads {
				a.Backward(&ws, work, row(wantDqkv, s, h.length, width), q, d, o, l, row(dout, s, h.length, outWidth), kvHead)
			}
		}
		sameBits(t, "out", out, wantOut)
		sameBits(t, "lse", lse, wantLse)
		sameBits(t, "dqkv", dqkv, wantDqkv)
	}
}

// Tokens that come one by one through the cache see what they see in one sequence.
func TestAttentionCached(t *testing.T) {
	t.Parallel()
	h := testHeads
	width, outWidth, kvWidth, rows := (h.heads+2*h.kvHeads)*h.headDim, h.heads*h.headDim, h.kvHeads*h.headDim, h.batch*h.length
	for _, be := range testBackends(t) {
		whole := newTestCall(t, be, "attention", headAttrs(h.length)...)
		qkv := whole.in(rows, width)
		whole.inInts(make([]int32, rows), h.batch, h.length)
		want := whole.out(rows, outWidth)
		whole.call.Out = append(whole.call.Out, nil) // nobody uses lse
		whole.bind()()

		c := newTestCall(t, be, "attention_cached", headAttrs(1)...)
		token := c.in(h.batch, width)
		c.in(h.batch, h.capacity, kvWidth)
		c.in(h.batch, h.capacity, kvWidth)
		c.inInts([]int32{0}, 1)
		out := c.out(h.batch, outWidth)
		pos := I32(c.call.In[3])
		step := c.bind()
		for i := range h.length {
			pos[0] = int32(i)
			for s := range h.batch {
				copy(row(token, s, 1, width), qkv[(s*h.length+i)*width:])
			}
			step()
			for s := range h.batch {
				ref := make([]float64, outWidth)
				for x := range ref {
					ref[x] = float64(want[(s*h.length+i)*outWidth+x])
				}
				close64(t, "attention_cached", row(out, s, 1, outWidth), ref, 1e-5)
			}
		}
	}
}

func TestAttentionCachedRefusesPositionsOutside(t *testing.T) {
	t.Parallel()
	h := testHeads
	b := New(1)
	defer b.Close()
	c := newTestCall(t, b, "attention_cached", headAttrs(2)...)
	c.in(2*h.batch, (h.heads+2*h.kvHeads)*h.headDim)
	c.in(h.batch, h.capacity, h.kvHeads*h.headDim)
	c.in(h.batch, h.capacity, h.kvHeads*h.headDim)
	c.inInts([]int32{int32(h.capacity - 1)}, 1)
	c.out(2*h.batch, h.heads*h.headDim)
	k, _ := b.Kernel("attention_cached")
	c.call.Scratch = c.tensor(engine.Float32, k.Scratch(&c.call))
	step, err := k.Bind(&c.call)
	if err != nil {
		t.Fatal(err)
	}
	if err := step(); err == nil || !strings.Contains(err.Error(), "cache") {
		t.Errorf("positions past the cache: %v", err)
	}
}

func TestAttentionDoesNotAllocate(t *testing.T) {
	h := testHeads
	b := New(2)
	defer b.Close()
	rows := h.batch * h.length
	c := newTestCall(t, b, "attention", headAttrs(h.length)...)
	c.in(rows, (h.heads+2*h.kvHeads)*h.headDim)
	c.inInts(make([]int32, rows), h.batch, h.length)
	c.out(rows, h.heads*h.headDim)
	c.out(h.batch, h.heads, h.length)
	step := c.bind()
	step()
	step()
	if n := testing.AllocsPerRun(20, step); n >= 1 {
		t.Errorf("a step of attention allocates %v times", n)
	}
}
