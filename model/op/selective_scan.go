package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// ScanInputs are the operands of SelectiveScan.
type ScanInputs struct {
	X     *G.Node // [T,D] after the convolution
	Dt    *G.Node // [T,D] before bias and softplus
	Bias  *G.Node // [D]
	ALog  *G.Node // [D,N]
	B, C  *G.Node // [T,N]
	D     *G.Node // [D] the path past the scan
	Z     *G.Node // [T,D] the gate
	Docs  *G.Node // [B,L]
	State *G.Node // [B,D,N] before the row; nil for zero
}

// SelectiveScan is the state space model of Mamba with its gate (arXiv
// 2312.00752, algorithm 2): with delta = softplus(dt + bias) and A = -exp(A_log),
//
//	s_t = exp(delta_t A) s_(t-1) + delta_t x_t B_t
//	y_t = (C_t . s_t + D x_t) silu(z_t)
//
// for each of D channels with N states. The state starts from zero with each
// document. final[B,D,N] is the state after the row. For the gradient the state
// at the start of every chunk positions is kept, and those between are computed
// again.
func (b *Builder) SelectiveScan(in ScanInputs, batch, length, chunk int) (yTD, final *G.Node) {
	s := scanRef{batch: batch, length: length, chunk: chunk, d: in.ALog.Shape()[0], n: in.ALog.Shape()[1], state: in.State != nil}
	check(in.X.Shape()[0] == batch*length && in.X.Shape()[1] == s.d && in.B.Shape()[1] == s.n,
		"selective_scan of %v with A %v and B %v", in.X.Shape(), in.ALog.Shape(), in.B.Shape())
	args := []*G.Node{in.X, in.Dt, in.Bias, in.ALog, in.B, in.C, in.D, in.Z, in.Docs}
	d := []bool{true, true, true, true, true, true, true, true, false}
	if s.state {
		args, d = append(args, in.State), append(d, true)
	}
	chunks := (length + chunk - 1) / chunk
	outs := b.apply(def{
		kernel: "selective_scan",
		attrs:  s.attrs(),
		outs: []engine.Out{kept(act(batch*length, s.d)), b.nextState(f32(batch, s.d, s.n), in.State, len(args)-1),
			kept(f32(batch, chunks, s.d, s.n))},
		diff: d,
		ref:  s.forward,
		grad: func(in, out, dout []*G.Node) []*G.Node { return b.selectiveScanGrad(s, in, out[2], dout) },
	}, args...)
	return outs[0], outs[1]
}

// selectiveScanGrad takes the inputs of the scan, the chunk starts, dy, and the
// gradient of the final state where it is used (attribute has_dstate).
func (b *Builder) selectiveScanGrad(s scanRef, in []*G.Node, starts *G.Node, dout []*G.Node) []*G.Node {
	check(dout[0] != nil, "selective_scan whose output has no gradient")
	args := append(append(append([]*G.Node(nil), in...), starts), dout[0])
	if dout[1] != nil {
		args = append(args, dout[1])
	}
	rows := s.batch * s.length
	outs := []engine.Out{act(rows, s.d), act(rows, s.d), act(s.d), act(s.d, s.n), act(rows, s.n), act(rows, s.n), act(s.d), act(rows, s.d)}
	if s.state {
		outs = append(outs, f32(s.batch, s.d, s.n))
	}
	grads := b.apply(def{
		kernel: "selective_scan_grad",
		attrs:  append(s.attrs(), flag("has_dstate", dout[1] != nil)),
		outs:   outs,
		ref:    s.backward,
	}, args...)
	return append(append(append([]*G.Node(nil), grads[:8]...), nil), grads[8:]...)
}

type scanRef struct {
	batch, length, chunk, d, n int
	state                      bool
}

func (s scanRef) attrs() engine.Attrs {
	return engine.Attrs{num("batch", s.batch), num("length", s.length), num("chunk", s.chunk), flag("state", s.state)}
}

// scanInputs are the inputs of the operator by name.
type scanInputs struct {
	x, dt, bias, alog, b, c, skip, z, docs, state []float64
}

func (s scanRef) inputs(in [][]float64) (v scanInputs, rest [][]float64) {
	v = scanInputs{x: in[0], dt: in[1], bias: in[2], alog: in[3], b: in[4], c: in[5], skip: in[6], z: in[7], docs: in[8]}
	if s.state {
		v.state = in[9]
		return v, in[10:]
	}
	return v, in[9:]
}

// states returns the state of one channel before each position of a row, and
// after the last: [L+1][N]. The first is zero or the initial state.
func (s scanRef) states(v scanInputs, row, d int) [][]float64 {
	all := make([][]float64, s.length+1)
	all[0] = make([]float64, s.n)
	if s.state {
		copy(all[0], v.state[(row*s.d+d)*s.n:])
	}
	for t := 0; t < s.length; t++ {
		i := row*s.length + t
		delta := softplus(v.dt[i*s.d+d] + v.bias[d])
		all[t+1] = make([]float64, s.n)
		for n := range all[t+1] {
			decay := math.Exp(-math.Exp(v.alog[d*s.n+n]) * delta)
			if s.starts(v.docs, i, t) {
				decay = 0
			}
			all[t+1][n] = decay*all[t][n] + delta*v.x[i*s.d+d]*v.b[i*s.n+n]
		}
	}
	return all
}

// starts says whether a document other than the row's first starts at position t.
func (s scanRef) starts(docs []float64, i, t int) bool { return t > 0 && docs[i] != docs[i-1] }

func (s scanRef) forward(in, out [][]float64) {
	v, _ := s.inputs(in)
	chunks := (s.length + s.chunk - 1) / s.chunk
	for row := 0; row < s.batch; row++ {
		for d := 0; d < s.d; d++ {
			states := s.states(v, row, d)
			for t := 0; t < s.length; t++ {
				i := row*s.length + t
				if t%s.chunk == 0 {
					copy(out[2][((row*chunks+t/s.chunk)*s.d+d)*s.n:], states[t])
				}
				out[0][i*s.d+d] = s.raw(v, states[t+1], i, d) * silu(v.z[i*s.d+d])
			}
			copy(out[1][(row*s.d+d)*s.n:], states[s.length])
		}
	}
}

// raw is the output before the gate.
func (s scanRef) raw(v scanInputs, state []float64, i, d int) float64 {
	y := v.skip[d] * v.x[i*s.d+d]
	for n, h := range state {
		y += v.c[i*s.n+n] * h
	}
	return y
}

// backward walks each channel from the end: ds is the gradient of the state after
// position t.
func (s scanRef) backward(in, out [][]float64) {
	v, rest := s.inputs(in)
	dy := rest[1]
	for row := 0; row < s.batch; row++ {
		for d := 0; d < s.d; d++ {
			states := s.states(v, row, d)
			ds := make([]float64, s.n)
			if len(rest) > 2 {
				copy(ds, rest[2][(row*s.d+d)*s.n:(row*s.d+d+1)*s.n])
			}
			for t := s.length - 1; t >= 0; t-- {
				s.backwardStep(v, states, dy, ds, out, row, t, d)
			}
			if s.state {
				copy(out[8][(row*s.d+d)*s.n:], ds)
			}
		}
	}
}

// backwardStep adds position t's part to the gradients, and turns the gradient of
// the state after t into that of the state before.
func (s scanRef) backwardStep(v scanInputs, states [][]float64, dy, ds []float64, out [][]float64, row, t, d int) {
	i := row*s.length + t
	at := i*s.d + d
	x, pre := v.x[at], v.dt[at]+v.bias[d]
	delta := softplus(pre)
	out[7][at] += dy[at] * s.raw(v, states[t+1], i, d) * siluGrad(v.z[at])
	g := dy[at] * silu(v.z[at]) // gradient of the raw output
	out[0][at] += g * v.skip[d]
	out[6][d] += g * x
	ddelta := 0.0
	for n := range ds {
		a := -math.Exp(v.alog[d*s.n+n])
		decay := math.Exp(a * delta)
		if s.starts(v.docs, i, t) {
			decay = 0
		}
		bn, cn := v.b[i*s.n+n], v.c[i*s.n+n]
		out[5][i*s.n+n] += g * states[t+1][n]
		h := ds[n] + g*cn
		out[4][i*s.n+n] += h * delta * x
		out[0][at] += h * delta * bn
		through := h * states[t][n] * decay // by way of exp(delta A)
		ddelta += h*x*bn + through*a
		out[3][d*s.n+n] += through * delta * a // dA/dA_log = A
		ds[n] = h * decay
	}
	dpre := ddelta * sigmoid(pre)
	out[1][at] += dpre
	out[2][d] += dpre
}

func softplus(x float64) float64 {
	if x > 30 {
		return x
	}
	return math.Log1p(math.Exp(x))
}
