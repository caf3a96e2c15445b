package cpu

import (
	"math"
	"math/rand/v2"
	"testing"

	"jambalaya/internal/engine"
)

// call allocates tensors of the given shapes and binds a kernel to them.
type testCall struct {
	t    testing.TB
	b    *Backend
	call engine.Call
	rng  *rand.Rand
}

func newTestCall(t testing.TB, b *Backend, kernel string, attrs ...engine.Attr) *testCall {
	return &testCall{t: t, b: b, call: engine.Call{Kernel: kernel, Attrs: attrs}, rng: rand.New(rand.NewPCG(1, 2))}
}

func (c *testCall) tensor(d engine.DType, shape ...int) *engine.Tensor {
	c.t.Helper()
	mem, err := c.b.Alloc(int64(4 * engine.Size(shape)))
	if err != nil {
		c.t.Fatal(err)
	}
	return &engine.Tensor{Shape: shape, DType: d, Mem: mem}
}

// in adds an input of normal random numbers.
func (c *testCall) in(shape ...int) []float32 {
	x := c.tensor(engine.Float32, shape...)
	for i := range F32(x) {
		F32(x)[i] = float32(c.rng.NormFloat64())
	}
	c.call.In = append(c.call.In, x)
	return F32(x)
}

func (c *testCall) inInts(values []int32, shape ...int) {
	x := c.tensor(engine.Int32, shape...)
	copy(I32(x), values)
	c.call.In = append(c.call.In, x)
}

func (c *testCall) out(shape ...int) []float32 {
	x := c.tensor(engine.Float32, shape...)
	for i := range F32(x) {
		F32(x)[i] = float32(math.NaN()) // outputs are written whole
	}
	c.call.Out = append(c.call.Out, x)
	return F32(x)
}

// alias makes output i the same memory as the last input.
func (c *testCall) alias() []float32 {
	x := c.call.In[len(c.call.In)-1]
	c.call.Out = append(c.call.Out, x)
	return F32(x)
}

// bind returns the step.
func (c *testCall) bind() func() {
	c.t.Helper()
	k, ok := c.b.Kernel(c.call.Kernel)
	if !ok {
		c.t.Fatalf("no kernel %q", c.call.Kernel)
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

func flag(name string, on bool) engine.Attr {
	if on {
		return engine.Attr{Name: name, Value: 1}
	}
	return engine.Attr{Name: name}
}

// testBackends are one, two and more workers than cores; results must have the same bits on all.
func testBackends(t *testing.T) []*Backend {
	var all []*Backend
	for _, threads := range []int{1, 2, 5} {
		b := New(threads)
		t.Cleanup(b.Close)
		all = append(all, b)
	}
	return all
}

func sameBits(t *testing.T, name string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d is %v, with one worker %v", name, i, got[i], want[i])
		}
	}
}

func close64(t *testing.T, name string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	for i := range want {
		if !(math.Abs(float64(got[i])-want[i]) <= tolerance*(1+math.Abs(want[i]))) {
			t.Fatalf("%s: element %d is %v, want %v", name, i, got[i], want[i])
		}
	}
}

// naive adds op(a) op(b) to c[m,n].
func naive(c []float64, a, b []float32, m, n, k int, ta, tb bool) {
	for i := range m {
		for j := range n {
			for p := range k {
				x, y := i*k+p, p*n+j
				if ta {
					x = p*m + i
				}
				if tb {
					y = j*k + p
				}
				c[i*n+j] += float64(a[x]) * float64(b[y])
			}
		}
	}
}

func TestMatMul(t *testing.T) {
	t.Parallel()
	backends := testBackends(t)
	for _, size := range [][3]int{{1, 300, 200}, {130, 70, 90}, {70, 161, 33}, {100, 40, 600}, {5, 9, 0}} {
		m, n, k := size[0], size[1], size[2]
		for variant := range 8 {
			ta, tb, accumulate := variant&1 > 0, variant&2 > 0, variant&4 > 0
			var first []float32
			for _, be := range backends {
				c := newTestCall(t, be, "matmul", flag("ta", ta), flag("tb", tb), flag("accumulate", accumulate))
				a, b := c.in(shape(m, k, ta)...), c.in(shape(k, n, tb)...)
				want := make([]float64, m*n)
				var y []float32
				if accumulate {
					for i, v := range c.in(m, n) {
						want[i] = float64(v)
					}
					y = c.alias()
				} else {
					y = c.out(m, n)
				}
				c.bind()()
				if first == nil {
					first = y
					naive(want, a, b, m, n, k, ta, tb)
					close64(t, "matmul", y, want, 1e-4)
				}
				sameBits(t, "matmul", y, first)
			}
		}
	}
}

func shape(rows, columns int, trans bool) []int {
	if trans {
		return []int{columns, rows}
	}
	return []int{rows, columns}
}

// Products whose panels do not fit the scratch memory at once are computed in several rounds.
func TestMatMulInRounds(t *testing.T) {
	t.Parallel()
	const m, n, k = 3, 450, 5000
	for _, be := range testBackends(t)[:2] {
		c := newTestCall(t, be, "matmul", flag("ta", true), flag("tb", true))
		a, b := c.in(k, m), c.in(n, k)
		y := c.out(m, n)
		c.bind()()
		want := make([]float64, m*n)
		naive(want, a, b, m, n, k, true, true)
		close64(t, "matmul", y, want, 1e-3)
	}
}

func TestGroupedMatMul(t *testing.T) {
	t.Parallel()
	backends := testBackends(t)
	const k, n = 70, 100
	for _, offsets := range [][]int32{{0, 0, 40, 41, 41, 300}, {0, 300, 300, 300, 300, 300}, {0, 3, 10, 17, 24, 30}} {
		e, rows := len(offsets)-1, int(offsets[len(offsets)-1])
		var y1, dx1, dw1 []float32
		for _, be := range backends {
			fw := newTestCall(t, be, "grouped_matmul")
			x, w := fw.in(rows, k), fw.in(e, n, k)
			fw.inInts(offsets, e+1)
			y := fw.out(rows, n)
			fw.bind()()

			bx := newTestCall(t, be, "grouped_matmul_dx")
			dy, wx := bx.in(rows, n), bx.in(e, n, k)
			bx.inInts(offsets, e+1)
			dx := bx.out(rows, k)
			bx.bind()()

			bw := newTestCall(t, be, "grouped_matmul_dw", flag("accumulate", true))
			dyw, xw := bw.in(rows, n), bw.in(rows, k)
			bw.inInts(offsets, e+1)
			wantDw := make([]float64, e*n*k)
			for i, v := range bw.in(e, n, k) {
				wantDw[i] = float64(v)
			}
			dw := bw.alias()
			bw.bind()()

			if y1 == nil {
				y1, dx1, dw1 = y, dx, dw
				wantY, wantDx := make([]float64, rows*n), make([]float64, rows*k)
				for i := range e {
					lo, hi := int(offsets[i]), int(offsets[i+1])
					naive(wantY[lo*n:hi*n], x[lo*k:hi*k], w[i*n*k:], hi-lo, n, k, false, true)
					naive(wantDx[lo*k:hi*k], dy[lo*n:hi*n], wx[i*n*k:], hi-lo, k, n, false, false)
					naive(wantDw[i*n*k:(i+1)*n*k], dyw[lo*n:hi*n], xw[lo*k:hi*k], n, k, hi-lo, true, false)
				}
				close64(t, "grouped_matmul", y, wantY, 1e-4)
				close64(t, "grouped_matmul_dx", dx, wantDx, 1e-4)
				close64(t, "grouped_matmul_dw", dw, wantDw, 1e-4)
			}
			sameBits(t, "grouped_matmul", y, y1)
			sameBits(t, "grouped_matmul_dx", dx, dx1)
			sameBits(t, "grouped_matmul_dw", dw, dw1)
		}
	}
}

func TestProductsDoNotAllocate(t *testing.T) {
	b := New(2)
	defer b.Close()
	offsets := []int32{0, 30, 64}
	c := newTestCall(t, b, "grouped_matmul")
	c.in(64, 100)
	c.in(2, 300, 100)
	c.inInts(offsets, 3)
	c.out(64, 300)
	step := c.bind()
	step()
	if n := testing.AllocsPerRun(20, step); n != 0 {
		t.Errorf("a step of grouped_matmul allocates %v times", n)
	}
}

func TestAdds(t *testing.T) {
	t.Parallel()
	for _, be := range testBackends(t) {
		const rows, n = 500, 130
		c := newTestCall(t, be, "add")
		x, y := c.in(rows, n), c.in(rows, n)
		sum := c.out(rows, n)
		c.bind()()
		c = newTestCall(t, be, "add_bias")
		xb, bias := c.in(rows, n), c.in(n)
		biased := c.out(rows, n)
		c.bind()()
		c = newTestCall(t, be, "column_sum")
		dy := c.in(rows, n)
		db := c.out(n)
		c.bind()()
		want := make([]float64, n)
		for i := range sum {
			if sum[i] != x[i]+y[i] || biased[i] != xb[i]+bias[i%n] {
				t.Fatalf("element %d: sum %v, biased %v", i, sum[i], biased[i])
			}
			want[i%n] += float64(dy[i])
		}
		close64(t, "column_sum", db, want, 1e-5)
	}
}
