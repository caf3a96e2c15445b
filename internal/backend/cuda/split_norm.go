package cuda

import "jambalaya/internal/engine"

func init() {
	register("split_norm", splitNorm)
	register("split_norm_grad", splitNormGrad)
}

// three takes three consecutive inputs where they are there.
func (a *args) three(there bool) (t [3]*engine.Tensor) {
	for i := range t {
		t[i] = a.in(there)
	}
	return t
}

// splitParts is StructParts of split_norm.cu.
func splitParts(a *args, w, dy, y [3]*engine.Tensor) []byte {
	n := a.Attrs.Int("states")
	return structure(w[0], w[1], w[2], dy[0], dy[1], dy[2], y[0], y[1], y[2], a.Attrs.Int("rank"), n, n)
}

// flagged is a condition as kernels take it.
func flagged(on bool) int {
	if on {
		return 1
	}
	return 0
}

// firstOf is a tensor of three that is there, for its type.
func firstOf(t [3]*engine.Tensor) *engine.Tensor {
	for _, x := range t {
		if x != nil {
			return x
		}
	}
	return nil
}

func splitNorm(a *args) {
	norm := a.Attrs.Bool("norm")
	p, w := a.in(true), a.three(norm)
	y := [3]*engine.Tensor{a.out(0), a.out(1), a.out(2)}
	rows := p.Dim(0)
	a.file("split_norm", typed("P", p), typed("W", w[0]), typed("Y", firstOf(y)), typed("DY", nil), typed("DP", nil)).
		launch("split_norm", grid{x: blocks(rows, 8), threads: 32, rows: 8},
			splitParts(a, w, [3]*engine.Tensor{}, y), a.out(3), p, rows, flagged(norm), float32(a.Attrs.Float("eps")))
}

func splitNormGrad(a *args) {
	norm := a.Attrs.Bool("norm")
	p, w, rstd, dy := a.in(true), a.three(norm), a.in(norm), a.three(true)
	rows, total := p.Dim(0), p.Dim(1)
	parts, each := rowParts(rows, mostParts)
	sums := a.scratch(parts * total)
	a.file("split_norm", typed("P", p), typed("W", w[0]), typed("Y", nil), typed("DY", dy[0]), typed("DP", a.out(0))).
		launch("split_norm_grad", grid{x: parts, threads: 32, rows: 3, shared: 4 * total},
			splitParts(a, w, dy, [3]*engine.Tensor{}), a.out(0), sums, p, rstd, rows, each, flagged(norm))
	if !norm {
		return
	}
	for i := range 3 {
		a.sumParts(a.out(1+i), sums, parts, total, w[i].Size())
		sums += address(4 * w[i].Size())
	}
}
