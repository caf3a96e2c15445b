package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// RMSNorm is y = x / sqrt(mean(x^2) + eps) * w over the rows of x[T,H]
// (Zhang and Sennrich 2019, arXiv 1910.07467, eq. 4).
func (b *Builder) RMSNorm(xTH, wH *G.Node, eps float64) (yTH *G.Node) {
	return b.rmsNorm(eps, wH, xTH)[0]
}

// AddRMSNorm is the joint of two sublayers: sum = x + delta, y = RMSNorm(sum).
// The gradient that reaches sum along the residual stream and the one through
// the norm are added in one pass.
func (b *Builder) AddRMSNorm(xTH, deltaTH, wH *G.Node, eps float64) (yTH, sumTH *G.Node) {
	outs := b.rmsNorm(eps, wH, xTH, deltaTH)
	return outs[0], outs[2]
}

func (b *Builder) rmsNorm(eps float64, wH *G.Node, xs ...*G.Node) []*G.Node {
	rows, h := xs[0].Shape()[0], xs[0].Shape()[1]
	check(wH.Shape().TotalSize() == h, "rms_norm weight %v for %v", wH.Shape(), xs[0].Shape())
	residual := len(xs) == 2
	outs := []engine.Out{kept(act(rows, h)), kept(f32(rows))}
	if residual {
		outs = append(outs, kept(inPlace(act(rows, h), 0, 1)))
	}
	d := def{
		kernel: "rms_norm",
		attrs:  engine.Attrs{num("eps", eps), flag("residual", residual)},
		outs:   outs,
		diff:   diff(len(xs)+1, 0, len(xs)),
		ref: func(in, out [][]float64) {
			sum := append([]float64(nil), in[0]...)
			if residual {
				for i, v := range in[1] {
					sum[i] += v
				}
				copy(out[2], sum)
			}
			rmsNormRef(sum, in[len(in)-1], out[0], out[1], eps)
		},
	}
	d.grad = func(in, out, dout []*G.Node) []*G.Node {
		sum, dsum := in[0], (*G.Node)(nil)
		if residual {
			sum, dsum = out[2], dout[2]
		}
		dx, dw := b.rmsNormGrad(sum, in[len(in)-1], out[1], dout[0], dsum)
		if residual {
			return []*G.Node{dx, dx, dw}
		}
		return []*G.Node{dx, dw}
	}
	if residual {
		d.diff[1] = true
	}
	return b.apply(d, append(append([]*G.Node(nil), xs...), wH)...)
}

// rmsNormGrad is the gradient of the norm, plus dsum where there is one:
// dx = r (w dy - x r^2 mean(x w dy)) + dsum and dw = sum_t dy x r, with r = rstd.
func (b *Builder) rmsNormGrad(xTH, wH, rstdT, dyTH, dsumTH *G.Node) (dxTH, dwH *G.Node) {
	check(dyTH != nil, "rms_norm whose output has no gradient")
	rows, h := xTH.Shape()[0], xTH.Shape()[1]
	in := []*G.Node{xTH, wH, rstdT, dyTH}
	dx := act(rows, h)
	if dsumTH != nil {
		in = append(in, dsumTH)
		dx = inPlace(dx, 4)
	}
	outs := b.apply(def{
		kernel: "rms_norm_grad",
		attrs:  engine.Attrs{flag("residual", dsumTH != nil)},
		outs:   []engine.Out{dx, act(h)},
		ref: func(in, out [][]float64) {
			for t := 0; t < rows; t++ {
				row := func(x []float64) []float64 { return x[t*h : (t+1)*h] }
				rmsNormGradRef(row(in[0]), in[1], in[2][t], row(in[3]), row(out[0]), out[1])
			}
			if dsumTH != nil {
				for i, v := range in[4] {
					out[0][i] += v
				}
			}
		},
	}, in...)
	return outs[0], outs[1]
}

func rmsNormRef(x, w, y, rstd []float64, eps float64) {
	h := len(w)
	for t := range rstd {
		row, ss := x[t*h:(t+1)*h], 0.0
		for _, v := range row {
			ss += v * v
		}
		rstd[t] = 1 / math.Sqrt(ss/float64(h)+eps)
		for j, v := range row {
			y[t*h+j] = v * rstd[t] * w[j]
		}
	}
}

// rmsNormGradRef writes the gradient of one row to dx and adds to dw.
func rmsNormGradRef(x, w []float64, r float64, dy, dx, dw []float64) {
	dot := 0.0
	for j := range x {
		dot += x[j] * w[j] * dy[j]
	}
	for j := range x {
		dx[j] = r * (w[j]*dy[j] - x[j]*r*r*dot/float64(len(x)))
		dw[j] += dy[j] * x[j] * r
	}
}
