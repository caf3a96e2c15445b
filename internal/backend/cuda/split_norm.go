package cuda

import (
	"slices"

	"jambalaya/internal/engine"
)

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

// splitWarps are the warps of a block, splitParts the blocks of the gradient at most.
const (
	splitWarps = 8
	splitParts = 264
)

// Groups of columns that a thread holds, at most, if a warp does for a row.
const (
	splitGroups     = 5
	splitGradGroups = 3
)

// splitFile compiles the kernels for the types of tensors, and says how many rows a block
// takes at a time. A vector of columns lies in one part.
func splitFile(a *args, most int, p *engine.Tensor, w, y, dy [3]*engine.Tensor, dp *engine.Tensor) (f file, rows int) {
	rank, states := a.Attrs.Int("rank"), a.Attrs.Int("states")
	vec, width := vector(rank, slices.Concat(w[:], y[:], dy[:], []*engine.Tensor{p, dp})...)
	if states%width != 0 {
		vec, width = constant("VEC", 1), 1
	}
	lanes := 4 // of a row
	for lanes < 32 && blocks((rank+2*states)/width, lanes) > most {
		lanes *= 2
	}
	return a.file("split_norm", vec, constant("LANES", lanes), constant("R", rank), constant("S", states), constant("NORM", flagged(a.Attrs.Bool("norm"))),
		constant("WARPS", splitWarps), typed("P", p), typed("W", firstOf(w)), typed("Y", firstOf(y)), typed("DY", firstOf(dy)), typed("DP", dp)), splitWarps * 32 / lanes
}

// splitTensors is StructParts of split_norm.cu.
func splitTensors(w, dy, y [3]*engine.Tensor) []byte {
	return structure(w[0], w[1], w[2], dy[0], dy[1], dy[2], y[0], y[1], y[2])
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
	f, each := splitFile(a, splitGroups, p, w, y, [3]*engine.Tensor{}, nil)
	f.launch("split_norm", grid{x: blocks(rows, each), threads: 32 * splitWarps}, splitTensors(w, [3]*engine.Tensor{}, y), a.out(3), p, rows,
		float32(a.Attrs.Float("eps")))
}

func splitNormGrad(a *args) {
	norm := a.Attrs.Bool("norm")
	p, w, rstd, dy := a.in(true), a.three(norm), a.in(norm), a.three(true)
	rows, total := p.Dim(0), p.Dim(1)
	parts, each := rowParts(rows, splitParts)
	sums := a.scratch(parts * total)
	none, dw := [3]*engine.Tensor{}, [3]*engine.Tensor{a.out(1), a.out(2), a.out(3)}
	f, _ := splitFile(a, splitGradGroups, p, w, dw, dy, a.out(0))
	f.launch("split_norm_grad", grid{x: parts, threads: 32 * splitWarps}, splitTensors(w, dy, none), a.out(0), sums, p, rstd, rows, each)
	if firstOf(dw) != nil {
		f.launch("split_norm_sum", grid{x: blocks(total, 32), threads: 32, rows: 32}, splitTensors(none, none, dw), sums, parts)
	}
}
