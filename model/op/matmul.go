package op

import (
	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// MatMul is op(x) op(y) for matrices, op being the transpose where ta or tb is
// set. A linear layer of weight w[N,K] is MatMul(xTK, w, false, true).
func (b *Builder) MatMul(x, y *G.Node, ta, tb bool) *G.Node { return b.matMul(x, y, ta, tb, act) }

// A product with an inner dimension of up to quickDepth takes about as long to write as
// to compute, on a device with 200 operations a byte; if its result is widening times as
// large as what it is made from, it is made again rather than kept. The projection of the
// steps of a scan is one.
const (
	quickDepth = 128
	widening   = 16
)

// MatMulF32 is a product that is stored in fp32 whatever the plan computes in, as
// the router's is.
func (b *Builder) MatMulF32(x, y *G.Node, ta, tb bool) *G.Node { return b.matMul(x, y, ta, tb, f32) }

func (b *Builder) matMul(x, y *G.Node, ta, tb bool, stored func(shape ...int) engine.Out) *G.Node {
	m, k := dims(x, ta)
	k2, n := dims(y, tb)
	check(k == k2, "matmul %v (transposed %t) by %v (transposed %t)", x.Shape(), ta, y.Shape(), tb)
	return b.apply(def{
		kernel: "matmul",
		attrs:  engine.Attrs{flag("ta", ta), flag("tb", tb)},
		outs:   []engine.Out{stored(m, n)},
		diff:   diff(2, 0, 1),
		cheap:  n >= widening*k && k <= quickDepth,
		ref:    func(in, out [][]float64) { matmulRef(in[0], in[1], out[0], m, n, k, ta, tb) },
		grad: func(in, _, dout []*G.Node) []*G.Node {
			x, y, d := in[0], in[1], dout[0]
			dx, dy := b.matmulGrad(x, y, d, ta, tb)
			return []*G.Node{dx, dy}
		},
	}, x, y)[0]
}

// matmulGrad: for c = op(x) op(y), d op(x) = dc op(y)^T and d op(y) = op(x)^T dc.
func (b *Builder) matmulGrad(x, y, d *G.Node, ta, tb bool) (dx, dy *G.Node) {
	if ta {
		dx = b.MatMul(y, d, tb, true)
	} else {
		dx = b.MatMul(d, y, false, !tb)
	}
	if tb {
		dy = b.MatMul(d, x, true, ta)
	} else {
		dy = b.MatMul(x, d, !ta, false)
	}
	return dx, dy
}

func dims(x *G.Node, transposed bool) (rows, cols int) {
	s := x.Shape()
	check(len(s) == 2, "matmul of %v: not a matrix", s)
	if transposed {
		return s[1], s[0]
	}
	return s[0], s[1]
}

// matmulRef adds op(a) op(b) to c[m,n].
func matmulRef(a, b, c []float64, m, n, k int, ta, tb bool) {
	as, bs := [2]int{k, 1}, [2]int{n, 1}
	if ta {
		as = [2]int{1, m}
	}
	if tb {
		bs = [2]int{1, k}
	}
	for i := 0; i < m; i++ {
		for p := 0; p < k; p++ {
			x := a[i*as[0]+p*as[1]]
			for j := 0; j < n; j++ {
				c[i*n+j] += x * b[p*bs[0]+j*bs[1]]
			}
		}
	}
}
