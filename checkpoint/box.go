package checkpoint

import "slices"

// box is a part of a tensor: Start and Extent by dimension.
type box struct {
	Start  []int64 `json:"start"`
	Extent []int64 `json:"extent"`
}

// whole is the box of a full tensor.
func whole(shape []int64) box { return box{make([]int64, len(shape)), shape} }

// size is the number of elements.
func (b box) size() int64 {
	n := int64(1)
	for _, e := range b.Extent {
		n *= e
	}
	return n
}

// inside reports whether the box lies in a tensor of this shape. The shape's
// product must not overflow; then the box's does not.
func (b box) inside(shape []int64) bool {
	if len(b.Start) != len(shape) || len(b.Extent) != len(shape) {
		return false
	}
	for d, dim := range shape {
		if b.Start[d] < 0 || b.Extent[d] < 0 || b.Extent[d] > dim || b.Start[d] > dim-b.Extent[d] {
			return false
		}
	}
	return true
}

// intersect is the common part of two boxes of one tensor.
func (b box) intersect(o box) (box, bool) {
	common := box{make([]int64, len(b.Start)), make([]int64, len(b.Start))}
	for d := range b.Start {
		from := max(b.Start[d], o.Start[d])
		to := min(b.Start[d]+b.Extent[d], o.Start[d]+o.Extent[d])
		if from >= to {
			return box{}, false
		}
		common.Start[d], common.Extent[d] = from, to-from
	}
	return common, true
}

// offset is where the element at index lies among the elements of the box,
// row-major.
func (b box) offset(index []int64) int64 {
	at := int64(0)
	for d, i := range index {
		at = at*b.Extent[d] + i - b.Start[d]
	}
	return at
}

// runs calls f for each longest stretch of elements of part that is contiguous
// in both boxes a and b, with its position in each. part lies in both.
func runs(part, a, b box, f func(inA, inB, n int64) error) error {
	dims := len(part.Start)
	n := int64(1)
	inner := dims // dimensions from inner on are one stretch
	for inner > 0 {
		inner--
		n *= part.Extent[inner]
		if part.Extent[inner] != a.Extent[inner] || part.Extent[inner] != b.Extent[inner] {
			break
		}
	}
	index := slices.Clone(part.Start)
	for {
		if err := f(a.offset(index), b.offset(index), n); err != nil {
			return err
		}
		d := inner - 1
		for ; d >= 0; d-- {
			index[d]++
			if index[d] < part.Start[d]+part.Extent[d] {
				break
			}
			index[d] = part.Start[d]
		}
		if d < 0 {
			return nil
		}
	}
}
