package simd

import "math"

// Embedding copies row ids[t] of table to row t of y[len(ids),h].
func Embedding(y, table []float32, ids []int32, h int) {
	for t, id := range ids {
		copy(y[t*h:][:h], rowOf(table, id, h))
	}
}

// EmbeddingGrad computes the rows v of dtable[vocab,h] with v%parts == part, parts being a power of 2: the sum of the
// rows dy[t] with ids[t] == v, in the order of t; the row of pad (-1: none) stays zero.
func EmbeddingGrad(dtable, dy []float32, ids []int32, pad int32, h, part, parts int) {
	for v := part; (v+1)*h <= len(dtable); v += parts {
		clear(dtable[v*h:][:h])
	}
	k, last := vec(), -1
	add := func(t int) {
		sum := rowOf(dtable, ids[t], h)
		k.add(sum, sum, dy[t*h:][:h])
	}
	for t, id := range ids {
		if int(id)&(parts-1) != part || id == pad {
			continue
		}
		k.prefetch(dy[t*h:][:h]) // while the last one is added
		if last >= 0 {
			add(last)
		}
		last = t
	}
	if last >= 0 {
		add(last)
	}
}

// RopeTable fills cos and sin [positions, headDim/2] of the angles (first+i) * theta^(-2j/headDim).
func RopeTable(cos, sin []float32, first int, theta float64, headDim int) {
	half := headDim / 2
	for i := range cos {
		s, c := math.Sincos(float64(first+i/half) * math.Pow(theta, -2*float64(i%half)/float64(headDim)))
		cos[i], sin[i] = float32(c), float32(s)
	}
}

// RopeHeads says how a row of a rotation is laid out: Rotated heads of HeadDim elements, then Copied elements.
type RopeHeads struct{ Rotated, HeadDim, Copied int }

// Rope rotates the heads of the rows of x by the angles of their positions (rotate-half; Su et al., arXiv
// 2104.09864), or back with inverse. The rows follow each other in one row of a batch, from
// position 0, and a change of docs starts again there. cos and sin have a row for each position. y may be x.
func Rope(y, x, cos, sin []float32, docs []int32, l RopeHeads, inverse bool) {
	ld, half := l.Rotated*l.HeadDim+l.Copied, l.HeadDim/2
	pos := 0
	for t := range docs {
		if t > 0 {
			pos++
			if docs[t] != docs[t-1] {
				pos = 0
			}
		}
		c, s := cos[pos*half:][:half], sin[pos*half:][:half]
		row, out := x[t*ld:][:ld], y[t*ld:][:ld]
		for h := range l.Rotated {
			rotate(out[h*l.HeadDim:][:l.HeadDim], row[h*l.HeadDim:][:l.HeadDim], c, s, inverse)
		}
		copy(out[l.Rotated*l.HeadDim:], row[l.Rotated*l.HeadDim:])
	}
}

// rotate is (a, b) -> (a cos - b sin, b cos + a sin) for the halves of a head, or back.
func rotate(y, x, cos, sin []float32, inverse bool) {
	half := len(cos)
	a, b, ya, yb := x[:half], x[half:2*half], y[:half], y[half:2*half]
	sin = sin[:half]
	for i, c := range cos {
		s, u, v := sin[i], a[i], b[i]
		if inverse {
			s = -s
		}
		ya[i], yb[i] = u*c-v*s, v*c+u*s
	}
}
