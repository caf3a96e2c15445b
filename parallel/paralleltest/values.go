package paralleltest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"

	"jambalaya/parallel"
)

// lengths are none, one, odd ones, exactly a chunk and several, and windows of chunks.
var lengths = []int{0, 1, 3, chunk / 4, 5*chunk/4 + 1, 333, 1200}

var op = parallel.Op{Step: 7, Name: "test"}

// gradient is different on every rank, of mixed magnitudes, so that the order of a
// sum shows in its last bits.
func gradient(rank, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		h := float64(mix(uint64(rank)<<32|uint64(i))>>11) / (1 << 53)
		x[i] = float32((h - 0.5) * math.Pow(10, float64((i+rank)%5)))
	}
	return x
}

// mix is the finaliser of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// ringSum adds the ranks' gradients in the documented order: part p starts at rank
// p+1 and ends at rank p.
func ringSum(size, n int, counts []int) []float32 {
	xs := make([][]float32, size)
	for rank := range xs {
		xs[rank] = gradient(rank, n)
	}
	sum := make([]float32, n)
	start := 0
	for p, count := range counts {
		for d := 1; d <= size; d++ {
			x := xs[(p+d)%size]
			for i := start; i < start+count; i++ {
				if d == 1 {
					sum[i] = x[i]
				} else {
					sum[i] += x[i]
				}
			}
		}
		start += count
	}
	return sum
}

// treeSum adds neighbours up, then neighbouring sums, whatever the parts are.
func treeSum(size, n int, _ []int) []float32 {
	xs := make([][]float32, size)
	for rank := range xs {
		xs[rank] = gradient(rank, n)
	}
	for len(xs) > 1 {
		for i := 0; i+1 < len(xs); i += 2 {
			for k, v := range xs[i+1] {
				xs[i][k] += v
			}
			xs[i/2] = xs[i]
		}
		if len(xs)%2 == 1 {
			xs[len(xs)/2] = xs[len(xs)-1]
		}
		xs = xs[:(len(xs)+1)/2]
	}
	return xs[0]
}

func even(n, parts int) []int {
	counts := make([]int, parts)
	for i := range counts {
		counts[i] = n*(i+1)/parts - n*i/parts
	}
	return counts
}

func same(got, want []float32) error {
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			return fmt.Errorf("element %d of %d is %v, want %v", i, len(want), got[i], want[i])
		}
	}
	return nil
}

// near allows for another order of the sum.
func near(got, want []float32) error {
	for i := range want {
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= 0.01) { // of numbers up to 5,000
			return fmt.Errorf("element %d of %d is %v, want %v", i, len(want), got[i], want[i])
		}
	}
	return nil
}

func (s *suite) allReduce(t *testing.T) {
	for _, size := range s.sizes() {
		s.collective(t, size, func(ctx context.Context, g parallel.Group) error {
			for _, n := range lengths {
				want := s.sum(size, n, even(n, size))
				for repeat := range 3 {
					x := gradient(g.Rank(), n)
					if err := g.AllReduce(ctx, op, x); err != nil {
						return err
					}
					if err := s.compare(x, want); err != nil {
						return fmt.Errorf("length %d, repeat %d, rank %d: %w", n, repeat, g.Rank(), err)
					}
				}
			}
			return nil
		})
	}
}

// unevenCounts are equal parts, all in one part, and parts with none.
func unevenCounts(n, size int) [][]int {
	last, first := make([]int, size), make([]int, size)
	last[size-1], first[0] = n, n
	sparse := make([]int, size)
	sparse[size/2] = n / 3
	sparse[0] += n - n/3
	return [][]int{even(n, size), first, last, sparse}
}

func (s *suite) reduceScatter(t *testing.T) {
	for _, size := range s.sizes() {
		s.collective(t, size, func(ctx context.Context, g parallel.Group) error {
			for _, n := range lengths {
				for _, counts := range unevenCounts(n, size) {
					if err := s.scatterGather(ctx, g, n, counts); err != nil {
						return fmt.Errorf("counts %v: %w", counts, err)
					}
				}
			}
			return nil
		})
	}
}

func (s *suite) scatterGather(ctx context.Context, g parallel.Group, n int, counts []int) error {
	want := s.sum(g.Size(), n, counts)
	before := gradient(g.Rank(), n)
	x := slices.Clone(before)
	if err := g.ReduceScatter(ctx, op, x, counts); err != nil {
		return err
	}
	lo := 0
	for _, c := range counts[:g.Rank()] {
		lo += c
	}
	hi := lo + counts[g.Rank()]
	scattered := slices.Concat(before[:lo], want[lo:hi], before[hi:])
	if err := s.compare(x, scattered); err != nil {
		return fmt.Errorf("reduce-scatter: %w", err)
	}
	if err := parallel.AllGather(ctx, g, op, x, counts); err != nil {
		return err
	}
	if err := s.compare(x, want); err != nil {
		return fmt.Errorf("all-gather: %w", err)
	}
	return nil
}

func (s *suite) allToAll(t *testing.T) {
	for _, size := range s.sizes() {
		// rows[i][j] is what rank i sends to rank j.
		patterns := map[string]func(i, j int) int{
			"nothing":    func(i, j int) int { return 0 },
			"equal":      func(i, j int) int { return 21 },
			"all to one": func(i, j int) int { return []int{0, 1000}[b2i(j == size-1)] },
			"one to all": func(i, j int) int { return []int{0, 500}[b2i(i == 0)] },
			"uneven":     func(i, j int) int { return (i*31 + j*17) % 5 * 40 },
		}
		s.collective(t, size, func(ctx context.Context, g parallel.Group) error {
			for _, name := range []string{"nothing", "equal", "all to one", "one to all", "uneven"} {
				if err := exchange(ctx, g, patterns[name]); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			return nil
		})
	}
}

func (s *suite) allToAllRandom(t *testing.T) {
	size := s.maxSize
	s.collective(t, size, func(ctx context.Context, g parallel.Group) error {
		for round := range 12 {
			rows := func(i, j int) int {
				h := mix(uint64(round)<<20 | uint64(i)<<10 | uint64(j))
				return int(h%4) * int(h>>8%300) // a quarter is 0
			}
			if err := exchange(ctx, g, rows); err != nil {
				return fmt.Errorf("round %d: %w", round, err)
			}
		}
		return nil
	})
}

// exchange sends rows(i, j) numbers that say who sent them to whom.
func exchange(ctx context.Context, g parallel.Group, rows func(i, j int) int) error {
	size, rank := g.Size(), g.Rank()
	sendCounts, recvCounts := make([]int, size), make([]int, size)
	var send, want []int32
	for peer := range size {
		sendCounts[peer], recvCounts[peer] = rows(rank, peer), rows(peer, rank)
		for k := range sendCounts[peer] {
			send = append(send, int32(rank<<24|peer<<16|k))
		}
		for k := range recvCounts[peer] {
			want = append(want, int32(peer<<24|rank<<16|k))
		}
	}
	recv := make([]int32, len(want))
	if err := parallel.AllToAll(ctx, g, op, send, sendCounts, recv, recvCounts); err != nil {
		return err
	}
	if !slices.Equal(recv, want) {
		return fmt.Errorf("rank %d received something else", rank)
	}
	return nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *suite) broadcast(t *testing.T) {
	for _, size := range s.sizes() {
		s.collective(t, size, func(ctx context.Context, g parallel.Group) error {
			for root := range size {
				for _, n := range lengths {
					x := gradient(g.Rank(), n)
					if err := parallel.Broadcast(ctx, g, op, root, x); err != nil {
						return err
					}
					if err := same(x, gradient(root, n)); err != nil {
						return fmt.Errorf("root %d: %w", root, err)
					}
				}
			}
			return nil
		})
	}
}

func (s *suite) barrier(t *testing.T) {
	for _, size := range s.sizes() {
		var arrived atomic.Int32
		s.collective(t, size, func(ctx context.Context, g parallel.Group) error {
			for round := range 5 {
				arrived.Add(1)
				if err := g.Barrier(ctx, op); err != nil {
					return err
				}
				if got := int(arrived.Load()); got < (round+1)*size {
					return fmt.Errorf("rank %d passed barrier %d when %d had come", g.Rank(), round, got)
				}
			}
			return nil
		})
	}
}

// groups runs operations of overlapping groups at the same time, in an order that
// differs between ranks.
func (s *suite) groups(t *testing.T) {
	mesh := parallel.Mesh{Data: 2, Expert: 2}
	transports := s.join(t, mesh.Size())
	each(t, mesh.Size(), func(ctx context.Context, rank int) {
		sets := [][]int{mesh.World(), mesh.Along(parallel.AxisData, rank), mesh.Along(parallel.AxisExpert, rank)}
		done := make(chan error, len(sets))
		for k := range sets {
			k := (k + rank) % len(sets)
			go func() { done <- sumGroup(ctx, transports[rank], fmt.Sprint("group", k), sets[k]) }()
		}
		for range sets {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// sumGroup sums the ranks of a group many times.
func sumGroup(ctx context.Context, transport parallel.Transport, name string, ranks []int) error {
	g, err := parallel.NewGroup(transport, name, ranks, parallel.GroupOptions{ChunkBytes: chunk})
	if err != nil {
		return err
	}
	want := float32(0)
	for _, r := range ranks {
		want += float32(r)
	}
	for range 10 {
		x := slices.Repeat([]float32{float32(transport.Rank())}, 500)
		if err := g.AllReduce(ctx, op, x); err != nil {
			return err
		}
		if !slices.Equal(x, slices.Repeat([]float32{want}, 500)) {
			return fmt.Errorf("%s %v: rank %d has %v, want %v", name, ranks, transport.Rank(), x[0], want)
		}
	}
	return nil
}
