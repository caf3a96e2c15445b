package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"jambalaya/internal/engine"
)

// call makes the tensors of one use of a kernel.
type call struct {
	t    testing.TB
	b    *Backend
	call engine.Call
}

func newCall(t testing.TB, b *Backend, kernel string, attrs ...engine.Attr) *call {
	return &call{t: t, b: b, call: engine.Call{Kernel: kernel, Attrs: attrs}}
}

func (c *call) tensor(d engine.DType, shape ...int) *engine.Tensor {
	c.t.Helper()
	x := &engine.Tensor{Shape: shape, DType: d}
	mem, err := c.b.Alloc(max(x.Bytes(), 16))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { c.b.Free(mem) })
	x.Mem = mem
	return x
}

// in adds an input of normal random numbers; integers are zero.
func (c *call) in(d engine.DType, shape ...int) *engine.Tensor {
	c.t.Helper()
	x := c.tensor(d, shape...)
	c.call.In = append(c.call.In, x)
	c.fill(x, 1, 0)
	return x
}

// fill draws normal numbers, which repeat in large tensors.
func (c *call) fill(x *engine.Tensor, scale, mean float64) {
	c.t.Helper()
	n := min(1<<22, x.Size())
	rng := rand.New(rand.NewPCG(1, uint64(x.Size())))
	f32, bf16 := make([]float32, n), make([]uint16, n)
	for i := range f32 {
		f32[i] = float32(mean + scale*rng.NormFloat64())
		bf16[i] = uint16(math.Float32bits(f32[i]) >> 16)
	}
	for from := 0; from < x.Size() && x.DType != engine.Int32; from += n {
		n := min(n, x.Size()-from)
		part := engine.Tensor{Shape: []int{n}, DType: x.DType, Mem: x.Mem, Off: int64(from) * x.DType.Bytes()}
		var data any = f32[:n]
		if x.DType == engine.BFloat16 {
			data = bf16[:n]
		}
		if err := c.b.Write(&part, data); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *call) out(d engine.DType, shape ...int) *engine.Tensor {
	c.t.Helper()
	x := c.tensor(d, shape...)
	c.call.Out = append(c.call.Out, x)
	return x
}

// bind returns the step.
func (c *call) bind() func() {
	c.t.Helper()
	k, ok := c.b.Kernel(c.call.Kernel)
	if !ok {
		c.t.Fatalf("no kernel %s", c.call.Kernel)
	}
	if n := k.Scratch(&c.call); n > 0 {
		c.call.Scratch = c.tensor(engine.Float32, n)
	}
	step, err := k.Bind(&c.call)
	if err != nil {
		c.t.Fatal(err)
	}
	return func() {
		if err := step(); err != nil {
			c.t.Fatal(err)
		}
	}
}

// bytes that the inputs and outputs take.
func (c *call) bytes() (n int64) {
	for _, x := range append(append([]*engine.Tensor(nil), c.call.In...), c.call.Out...) {
		if x != nil {
			n += x.Bytes()
		}
	}
	return n
}

// measure reports time, bandwidth over inputs and outputs, and the rate of
// floating point operations.
func measure(b *testing.B, c *call, flops float64) {
	step := c.bind()
	sync := func() {
		if err := c.b.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	for range 2 {
		step()
	}
	sync()
	b.ResetTimer()
	start := time.Now()
	for range b.N {
		step()
	}
	sync()
	seconds := time.Since(start).Seconds() / float64(b.N)
	b.ReportMetric(seconds*1e3, "ms")
	b.ReportMetric(float64(c.bytes())/seconds/1e9, "GB/s")
	b.ReportMetric(flops/seconds/1e12, "TFLOP/s")
	b.ReportMetric(0, "ns/op")
}

func attr(name string, v float64) engine.Attr { return engine.Attr{Name: name, Value: v} }

// BenchmarkKernels times kernels at the shapes of a model of a billion parameters.
func BenchmarkKernels(b *testing.B) {
	be := gpu(b)
	for _, d := range []engine.DType{engine.BFloat16, engine.Float32} {
		run := func(name string, flops float64, build func(c *call), attrs ...engine.Attr) {
			b.Run(fmt.Sprintf("%s/%v", name, d), func(b *testing.B) {
				c := newCall(b, be, name, attrs...)
				build(c)
				measure(b, c, flops)
			})
		}
		rowBenchmarks(d, run)
		productBenchmarks(d, run)
		sequenceBenchmarks(b, be, d)
	}
}

type runner func(name string, flops float64, build func(c *call), attrs ...engine.Attr)

func rowBenchmarks(d engine.DType, run runner) {
	const t, h, i, s, v = 16384, 2048, 4096, 32768, 65536
	f32, i32 := engine.Float32, engine.Int32
	run("rms_norm", 0, func(c *call) {
		c.in(d, t, h)
		c.in(d, t, h)
		c.in(f32, h)
		c.out(d, t, h)
		c.out(f32, t)
		c.out(d, t, h)
	}, attr("eps", 1e-6), attr("residual", 1))
	run("rms_norm_grad", 0, func(c *call) {
		c.in(d, t, h)
		c.in(f32, h)
		c.in(f32, t)
		c.in(d, t, h)
		c.in(d, t, h)
		c.out(d, t, h)
		c.out(f32, h)
	}, attr("residual", 1))
	run("swiglu", 0, func(c *call) { c.in(d, s, 2*i); c.out(d, s, i) })
	run("swiglu_grad", 0, func(c *call) { c.in(d, s, 2*i); c.in(d, s, i); c.out(d, s, 2*i) })
	run("add", 0, func(c *call) { c.in(d, t, h); c.in(d, t, h); c.out(d, t, h) })
	run("column_sum", 0, func(c *call) { c.in(d, t, i); c.out(f32, i) })
	run("cross_entropy", 0, func(c *call) { c.in(d, t, v); c.in(i32, 8, t/8); c.out(f32, 1); c.out(f32, t); c.out(f32, t) })
	run("cross_entropy_grad", 0, func(c *call) { c.in(d, t, v); c.in(i32, 8, t/8); c.in(f32, t); c.in(f32, 1); c.out(d, t, v) })
	run("embedding_grad", 0, func(c *call) { tokens(c, c.in(i32, 8, t/8), v); c.in(d, t, h); c.out(f32, v, h) }, attr("pad", -1))
	run("adamw", 0, func(c *call) {
		for range 3 {
			x := c.in(f32, 1<<28)
			c.call.Out = append(c.call.Out, x)
		}
		c.in(d, 1<<28)
		c.fill(c.in(f32, 1), 0, 1)
		c.fill(c.in(f32, 4), 0, 1)
	}, attr("beta1", 0.9), attr("beta2", 0.95), attr("eps", 1e-8), attr("weight_decay", 0.1), attr("clip", 1))
	run("sum_squares", 0, func(c *call) { c.in(d, 1<<28); c.out(f32, 1) })
}

// tokens writes random integers below n.
func tokens(c *call, x *engine.Tensor, n int) {
	rng := rand.New(rand.NewPCG(3, 4))
	v := make([]int32, x.Size())
	for i := range v {
		v[i] = int32(rng.IntN(n))
	}
	if err := c.b.Write(x, v); err != nil {
		c.t.Fatal(err)
	}
}

func productBenchmarks(d engine.DType, run runner) {
	const t, h, i, e, k = 16384, 2048, 4096, 8, 2
	const s = t * k
	run("matmul", 2*t*h*2*i, func(c *call) { c.in(d, t, h); c.in(d, 2*i, h); c.out(d, t, 2*i) }, attr("ta", 0), attr("tb", 1))
	for _, uneven := range []bool{false, true} {
		offsets := func(c *call) {
			v := make([]int32, e+1)
			for j := range v {
				v[j] = int32(j * s / e)
				if uneven && j > 0 && j < e {
					v[j] += int32([]int{2500, -1300, 4001, 77}[j%4])
				}
			}
			if err := c.b.Write(c.in(engine.Int32, e+1), v); err != nil {
				c.t.Fatal(err)
			}
		}
		run := func(name string, flops float64, build func(c *call)) {
			if uneven {
				name += "_uneven"
			}
			run(name, flops, func(c *call) {
				c.call.Kernel = strings.TrimSuffix(name, "_uneven")
				build(c)
			})
		}
		run("grouped_matmul", 2*s*h*2*i, func(c *call) { c.in(d, s, h); c.in(d, e, 2*i, h); offsets(c); c.out(d, s, 2*i) })
		run("grouped_matmul_dx", 2*s*h*2*i, func(c *call) { c.in(d, s, 2*i); c.in(d, e, 2*i, h); offsets(c); c.out(d, s, h) })
		run("grouped_matmul_dw", 2*s*h*2*i, func(c *call) { c.in(d, s, 2*i); c.in(d, s, h); offsets(c); c.out(d, e, 2*i, h) })
	}
	index := func(c *call) { tokens(c, c.in(engine.Int32, t, k), e) }
	run("expert_sort", 0, func(c *call) {
		index(c)
		c.out(engine.Int32, t, k)
		c.out(engine.Int32, s)
		c.out(engine.Int32, e+1)
	}, attr("experts", e))
	slots := func(c *call) { tokens(c, c.in(engine.Int32, t, k), s); tokens(c, c.in(engine.Int32, s), s) }
	run("dispatch", 0, func(c *call) { c.in(d, t, h); slots(c); c.out(d, s, h) })
	run("combine", 0, func(c *call) { c.in(d, s, h); c.in(engine.Float32, t, k); slots(c); c.out(d, t, h) })
	run("combine_grad", 0, func(c *call) {
		c.in(d, s, h)
		c.in(engine.Float32, t, k)
		slots(c)
		c.in(d, t, h)
		c.out(d, s, h)
		c.out(engine.Float32, t, k)
	})
}

func sequenceBenchmarks(b *testing.B, be *Backend, d engine.DType) {
	for _, s := range []struct{ batch, length int }{{8, 2048}, {1, 65536}} {
		run := func(name string, flops float64, build func(c *call), attrs ...engine.Attr) {
			b.Run(fmt.Sprintf("%s/B%dL%d/%v", name, s.batch, s.length, d), func(b *testing.B) {
				c := newCall(b, be, name, append(attrs, attr("batch", float64(s.batch)), attr("length", float64(s.length)))...)
				build(c)
				measure(b, c, flops)
			})
		}
		scanBenchmarks(s.batch, s.length, d, run)
	}
	for _, s := range []struct{ batch, length, documents int }{{8, 2048, 1}, {8, 2048, 5}, {1, 32768, 1}} {
		if d == engine.Float32 && s.batch == 1 {
			continue // seconds
		}
		attentionBenchmarks(s.batch, s.length, s.documents, d, func(name string, flops float64, build func(c *call), attrs ...engine.Attr) {
			b.Run(fmt.Sprintf("%s/B%dL%dx%d/%v", name, s.batch, s.length, s.documents, d), func(b *testing.B) {
				c := newCall(b, be, name, append(attrs, attr("batch", float64(s.batch)), attr("length", float64(s.length)))...)
				build(c)
				measure(b, c, flops)
			})
		})
	}
}

// BenchmarkProducts times the plain products of a model of a billion parameters in
// bf16, forward and both gradients.
func BenchmarkProducts(b *testing.B) {
	be := gpu(b)
	const t = 16384
	for _, p := range []struct {
		name string
		n, k int
	}{{"qkv", 3072, 2048}, {"o", 2048, 2048}, {"in_proj", 8192, 2048}, {"x_proj", 160, 4096}, {"dt_proj", 4096, 128}, {"out_proj", 2048, 4096},
		{"gate_up", 8192, 2048}, {"down", 2048, 4096}, {"router", 8, 2048}, {"lm_head", 65536, 2048}} {
		for _, pass := range []struct {
			name   string
			a, b   [2]int
			c      [2]int
			ta, tb float64
		}{{"forward", [2]int{t, p.k}, [2]int{p.n, p.k}, [2]int{t, p.n}, 0, 1}, {"dx", [2]int{t, p.n}, [2]int{p.n, p.k}, [2]int{t, p.k}, 0, 0},
			{"dw", [2]int{t, p.n}, [2]int{t, p.k}, [2]int{p.n, p.k}, 1, 0}} {
			b.Run(p.name+"/"+pass.name, func(b *testing.B) {
				c := newCall(b, be, "matmul", attr("ta", pass.ta), attr("tb", pass.tb))
				c.in(engine.BFloat16, pass.a[:]...)
				c.in(engine.BFloat16, pass.b[:]...)
				c.out(engine.BFloat16, pass.c[:]...)
				measure(b, c, 2*t*float64(p.n)*float64(p.k))
			})
		}
	}
}

func scanBenchmarks(batch, length int, d engine.DType, run runner) {
	const dim, n, chunk, taps = 4096, 16, 32, 4
	t, f32, i32 := batch*length, engine.Float32, engine.Int32
	chunks := (length + chunk - 1) / chunk
	inputs := func(c *call) {
		c.in(d, t, dim)
		c.in(d, t, dim)
		c.fill(c.in(f32, dim), 0.1, -4)
		c.fill(c.in(f32, dim, n), 0.1, 1)
		c.in(d, t, n)
		c.in(d, t, n)
		c.in(f32, dim)
		c.in(d, t, dim)
		c.in(i32, batch, length)
	}
	run("selective_scan", 0, func(c *call) {
		inputs(c)
		c.out(d, t, dim)
		c.call.Out = append(c.call.Out, nil)
		c.out(f32, batch, chunks, dim, n)
	}, attr("chunk", chunk))
	run("selective_scan_grad", 0, func(c *call) {
		inputs(c)
		c.in(f32, batch, chunks, dim, n)
		c.in(d, t, dim)
		c.out(d, t, dim)
		c.out(d, t, dim)
		c.out(f32, dim)
		c.out(f32, dim, n)
		c.out(d, t, n)
		c.out(d, t, n)
		c.out(f32, dim)
		c.out(d, t, dim)
	}, attr("chunk", chunk))
	run("conv1d", 0, func(c *call) {
		c.in(d, t, dim)
		c.in(f32, dim, taps)
		c.in(f32, dim)
		c.in(i32, batch, length)
		c.out(d, t, dim)
	}, attr("kernel", taps), attr("bias", 1))
	run("conv1d_grad", 0, func(c *call) {
		c.in(d, t, dim)
		c.in(f32, dim, taps)
		c.in(f32, dim)
		c.in(i32, batch, length)
		c.in(d, t, dim)
		c.out(d, t, dim)
		c.out(f32, dim, taps)
		c.out(f32, dim)
	}, attr("kernel", taps), attr("bias", 1))
}

// attentionBenchmarks has rows of as many documents, of about the same length.
func attentionBenchmarks(batch, length, documents int, d engine.DType, run runner) {
	const heads, kv, dim = 16, 4, 128
	t, f32 := batch*length, engine.Float32
	attrs := []engine.Attr{attr("heads", heads), attr("kv_heads", kv), attr("head_dim", dim)}
	// The causal half of two products.
	flops := 2 * float64(batch*heads*dim) * float64(length) * float64(length) / float64(documents)
	docs := func(c *call) {
		v := make([]int32, t)
		for i := range v {
			v[i] = int32(i % length * documents / length)
		}
		if err := c.b.Write(c.in(engine.Int32, batch, length), v); err != nil {
			c.t.Fatal(err)
		}
	}
	run("attention", flops, func(c *call) {
		c.in(d, t, (heads+2*kv)*dim)
		docs(c)
		c.out(d, t, heads*dim)
		c.out(f32, batch, heads, length)
	}, attrs...)
	run("attention_grad", 2.5*flops, func(c *call) {
		c.in(d, t, (heads+2*kv)*dim)
		docs(c)
		c.in(d, t, heads*dim)
		c.in(f32, batch, heads, length)
		c.in(d, t, heads*dim)
		c.out(d, t, (heads+2*kv)*dim)
	}, attrs...)
}
