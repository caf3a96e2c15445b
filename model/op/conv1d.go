package op

import (
	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// Conv1D is y = silu(conv + bias), a causal depthwise convolution over the rows of
// x[T,D] with taps w[D,K]: conv[t,d] = sum_q w[d,K-1-q] x[t-q,d] over the q for
// which t-q is in the same document (Mamba, arXiv 2312.00752, fig. 3). state
// [B,K-1,D] holds the inputs before the row, as part of its first document; nil
// for none. final[B,K-1,D] holds the last inputs that the row's last document
// can still see. bias[D] may be nil.
func (b *Builder) Conv1D(xTD, wDK, biasD, docsBL, state *G.Node, batch, length int) (yTD, final *G.Node) {
	c := convRef{batch: batch, length: length, d: wDK.Shape()[0], taps: wDK.Shape()[1], bias: biasD != nil, state: state != nil}
	check(xTD.Shape()[0] == batch*length && xTD.Shape()[1] == c.d, "conv1d of %v with %v", xTD.Shape(), wDK.Shape())
	in := []*G.Node{xTD, wDK}
	d := []bool{true, true}
	if c.bias {
		in, d = append(in, biasD), append(d, true)
	}
	in, d = append(in, docsBL), append(d, false)
	if c.state {
		in, d = append(in, state), append(d, true)
	}
	outs := b.apply(def{
		kernel: "conv1d",
		attrs:  c.attrs(),
		outs:   []engine.Out{act(batch*length, c.d), b.nextState(f32(batch, c.taps-1, c.d), state, len(in)-1)},
		diff:   d,
		cheap:  true,
		ref:    c.forward,
		grad:   func(in, _, dout []*G.Node) []*G.Node { return b.conv1dGrad(c, in, dout) },
	}, in...)
	return outs[0], outs[1]
}

type convRef struct {
	batch, length, d, taps int
	bias, state            bool
}

func (c convRef) attrs() engine.Attrs {
	return engine.Attrs{num("batch", c.batch), num("length", c.length), num("kernel", c.taps), flag("bias", c.bias), flag("state", c.state)}
}

// convInputs are the inputs of the forward operator by name; those that are not
// there are nil.
type convInputs struct {
	x, w, bias, docs, state []float64
}

func (c convRef) inputs(in [][]float64) (v convInputs, rest [][]float64) {
	next := func(there bool) (s []float64) {
		if there {
			s, in = in[0], in[1:]
		}
		return s
	}
	v = convInputs{x: next(true), w: next(true), bias: next(c.bias), docs: next(true), state: next(c.state)}
	return v, in
}

// tap calls f for each input that position t of a row sees, with its tap and its
// offset in x or, before the row, in the state.
func (c convRef) tap(docs []float64, row, t int, f func(k, x, state int)) {
	base := row * c.length
	for q := 0; q < c.taps; q++ {
		k := c.taps - 1 - q
		switch at := t - q; {
		case at >= 0 && docs[base+at] == docs[base+t]:
			f(k, (base+at)*c.d, -1)
		case at < 0 && c.state && docs[base] == docs[base+t]:
			f(k, -1, (row*(c.taps-1)+c.taps-1+at)*c.d)
		}
	}
}

// pre is the convolution before the activation.
func (c convRef) pre(v convInputs, row, t, d int) float64 {
	sum := 0.0
	if c.bias {
		sum = v.bias[d]
	}
	c.tap(v.docs, row, t, func(k, x, state int) {
		if x >= 0 {
			sum += v.w[d*c.taps+k] * v.x[x+d]
		} else {
			sum += v.w[d*c.taps+k] * v.state[state+d]
		}
	})
	return sum
}

func (c convRef) forward(in, out [][]float64) {
	v, _ := c.inputs(in)
	for row := 0; row < c.batch; row++ {
		for t := 0; t < c.length; t++ {
			for d := 0; d < c.d; d++ {
				out[0][(row*c.length+t)*c.d+d] = silu(c.pre(v, row, t, d))
			}
		}
		c.last(v.docs, row, func(slot, x, state int) {
			for d := 0; d < c.d; d++ {
				if x >= 0 {
					out[1][slot+d] = v.x[x+d]
				} else {
					out[1][slot+d] = v.state[state+d]
				}
			}
		})
	}
}

// last calls f for each slot of the final state that is not zero: what the tap of
// one position further would read, but for that position itself.
func (c convRef) last(docs []float64, row int, f func(slot, x, state int)) {
	c.tap(docs, row, c.length-1, func(k, x, state int) {
		if k == 0 {
			return // the oldest input, which the next position no longer sees
		}
		f((row*(c.taps-1)+k-1)*c.d, x, state)
	})
}

// conv1dGrad computes the pre-activation again. Inputs: those of conv1d, dy, and
// the gradient of the final state where it is used (attribute has_dstate).
func (b *Builder) conv1dGrad(c convRef, in, dout []*G.Node) []*G.Node {
	check(dout[0] != nil, "conv1d whose output has no gradient")
	args := append(append([]*G.Node(nil), in...), dout[0])
	if dout[1] != nil {
		args = append(args, dout[1])
	}
	outs := []engine.Out{act(c.batch*c.length, c.d), act(c.d, c.taps)}
	if c.bias {
		outs = append(outs, act(c.d))
	}
	if c.state {
		outs = append(outs, f32(c.batch, c.taps-1, c.d))
	}
	grads := b.apply(def{
		kernel: "conv1d_grad",
		attrs:  append(c.attrs(), flag("has_dstate", dout[1] != nil)),
		outs:   outs,
		ref:    c.backward,
	}, args...)
	// In the order of the inputs, of which docs has no gradient.
	all := append([]*G.Node(nil), grads[:2]...)
	rest := grads[2:]
	if c.bias {
		all, rest = append(all, rest[0]), rest[1:]
	}
	return append(append(all, nil), rest...)
}

func (c convRef) backward(in, out [][]float64) {
	v, rest := c.inputs(in)
	dx, dw := out[0], out[1]
	var dbias, dstate []float64
	if c.bias {
		dbias = out[2]
	}
	if c.state {
		dstate = out[len(out)-1]
	}
	for row := 0; row < c.batch; row++ {
		for t := 0; t < c.length; t++ {
			for d := 0; d < c.d; d++ {
				g := rest[0][(row*c.length+t)*c.d+d] * siluGrad(c.pre(v, row, t, d))
				if c.bias {
					dbias[d] += g
				}
				c.tap(v.docs, row, t, func(k, x, state int) {
					if x >= 0 {
						dx[x+d] += g * v.w[d*c.taps+k]
						dw[d*c.taps+k] += g * v.x[x+d]
					} else {
						dstate[state+d] += g * v.w[d*c.taps+k]
						dw[d*c.taps+k] += g * v.state[state+d]
					}
				})
			}
		}
		if len(rest) < 2 {
			continue
		}
		c.last(v.docs, row, func(slot, x, state int) {
			for d := 0; d < c.d; d++ {
				if x >= 0 {
					dx[x+d] += rest[1][slot+d]
				} else {
					dstate[state+d] += rest[1][slot+d]
				}
			}
		})
	}
}
