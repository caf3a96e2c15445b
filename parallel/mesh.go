package parallel

import "fmt"

// Axis is a direction of the mesh.
type Axis string

// The axes. Ranks along AxisExpert are neighbours: they exchange tokens in every
// layer, and so should be close to each other.
const (
	AxisData   Axis = "data"
	AxisExpert Axis = "expert"
)

// Mesh arranges the ranks in a grid of Data rows and Expert columns: the rank is
// row * Expert + column.
//
// Every rank has its own samples. Dense parameters are the same on all ranks;
// their gradients are summed over World. An expert lives on one column; its
// gradient is summed over the ranks of that column, which Along(AxisData) lists.
type Mesh struct {
	Data   int
	Expert int
}

// Coord is the place of a rank in the mesh.
type Coord struct {
	Data   int
	Expert int
}

// Size returns the number of ranks.
func (m Mesh) Size() int { return m.Data * m.Expert }

// Rank returns the rank at a place.
func (m Mesh) Rank(c Coord) int { return c.Data*m.Expert + c.Expert }

// Coord returns the place of a rank.
func (m Mesh) Coord(rank int) Coord { return Coord{Data: rank / m.Expert, Expert: rank % m.Expert} }

// World lists all ranks: dense gradients are reduced among them.
func (m Mesh) World() []int { return m.ranks(0, 1, m.Size()) }

// Along lists the ranks that one reaches from a rank along an axis, itself
// included, in the order of their coordinates.
func (m Mesh) Along(axis Axis, rank int) []int {
	c := m.Coord(rank)
	switch axis {
	case AxisData:
		return m.ranks(c.Expert, m.Expert, m.Data)
	case AxisExpert:
		return m.ranks(c.Data*m.Expert, 1, m.Expert)
	}
	panic(fmt.Sprintf("parallel: unknown axis %q", axis))
}

func (m Mesh) ranks(first, stride, n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = first + i*stride
	}
	return list
}

// Experts returns the range [lo, hi) of experts, of each layer, that a rank
// holds. numExperts is a multiple of Expert.
func (m Mesh) Experts(rank, numExperts int) (lo, hi int) {
	n := numExperts / m.Expert
	lo = m.Coord(rank).Expert * n
	return lo, lo + n
}

// Samples returns the range [lo, hi) of the samples of a step's global batch that
// a rank computes. batch is a multiple of Size.
func (m Mesh) Samples(rank, batch int) (lo, hi int) {
	n := batch / m.Size()
	return rank * n, (rank + 1) * n
}
