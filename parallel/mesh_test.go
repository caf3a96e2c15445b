package parallel_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"jambalaya/parallel"
)

func TestMesh(t *testing.T) {
	t.Parallel()
	m := parallel.Mesh{Data: 2, Expert: 3}
	for _, c := range []struct{ got, want any }{
		{m.Size(), 6},
		{m.World(), []int{0, 1, 2, 3, 4, 5}},
		{m.Coord(4), parallel.Coord{Data: 1, Expert: 1}},
		{m.Rank(parallel.Coord{Data: 1, Expert: 1}), 4},
		{m.Along(parallel.AxisData, 4), []int{1, 4}},
		{m.Along(parallel.AxisExpert, 4), []int{3, 4, 5}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
	if lo, hi := m.Experts(4, 6); lo != 2 || hi != 4 {
		t.Errorf("rank 4 holds experts %d to %d of 6, want 2 to 4", lo, hi)
	}
	if lo, hi := m.Samples(4, 12); lo != 8 || hi != 10 {
		t.Errorf("rank 4 has samples %d to %d of 12, want 8 to 10", lo, hi)
	}
}

// TestMeshProperties: groups along an axis partition the world, coordinates are
// unique, and experts and samples are owned exactly once.
func TestMeshProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := parallel.Mesh{Data: rapid.IntRange(1, 9).Draw(t, "data"), Expert: rapid.IntRange(1, 9).Draw(t, "expert")}
		experts, batch := m.Expert*rapid.IntRange(1, 4).Draw(t, "experts"), m.Size()*rapid.IntRange(1, 4).Draw(t, "batch")
		owners, samples := make([]int, experts), make([]int, batch)
		for rank := range m.Size() {
			if back := m.Rank(m.Coord(rank)); back != rank {
				t.Fatalf("rank %d is at %v, which is rank %d", rank, m.Coord(rank), back)
			}
			for _, axis := range []parallel.Axis{parallel.AxisData, parallel.AxisExpert} {
				for _, other := range m.Along(axis, rank) {
					if !slices.Equal(m.Along(axis, other), m.Along(axis, rank)) {
						t.Fatalf("ranks %d and %d along %s see different groups", rank, other, axis)
					}
				}
			}
			lo, hi := m.Experts(rank, experts)
			for e := lo; e < hi; e++ {
				owners[e]++
				if first := lo / (hi - lo); first != m.Coord(rank).Expert {
					t.Fatalf("rank %d, which is at %v, has the experts of column %d", rank, m.Coord(rank), first)
				}
			}
			lo, hi = m.Samples(rank, batch)
			for s := lo; s < hi; s++ {
				samples[s]++
			}
		}
		if slices.Min(owners) != m.Data || slices.Max(owners) != m.Data {
			t.Fatalf("experts are held %v times, want %d", owners, m.Data)
		}
		if slices.Min(samples) != 1 || slices.Max(samples) != 1 {
			t.Fatalf("samples are computed %v times", samples)
		}
	})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if err := parallel.Default().Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
	bad := parallel.Config{Data: 0, Expert: 1 << 20, BucketMiB: -1, ChunkKiB: 2000, TimeoutSeconds: 0}
	err := bad.Validate()
	for _, key := range []string{"data", "expert", "bucket_mib", "chunk_kib", "timeout_seconds"} {
		if err == nil || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("no fault of %s in: %v", key, err)
		}
	}
	for _, c := range []struct {
		data, expert int
		workload     parallel.Workload
		fault        string
	}{
		{2, 2, parallel.Workload{World: 4, NumExperts: 8, BatchSize: 8}, ""},
		{2, 1, parallel.Workload{NumExperts: 1, BatchSize: 8}, ""},
		{2, 2, parallel.Workload{World: 3, NumExperts: 8, BatchSize: 8}, "data: 2 x expert 2 is a mesh of 4 ranks, but there are 3 workers"},
		{1, 3, parallel.Workload{NumExperts: 8, BatchSize: 9}, "expert: 3 does not divide the 8 experts of a layer"},
		{1, 2, parallel.Workload{NumExperts: 1, BatchSize: 8}, "expert: 2, but the model has no experts to share out; set it to 1"},
		{3, 1, parallel.Workload{NumExperts: 1, BatchSize: 8}, "data: 3 x expert 1 is a mesh of 3 ranks, which does not divide the global batch of 8 sequences"},
	} {
		cfg := parallel.Default()
		cfg.Data, cfg.Expert = c.data, c.expert
		if err := cfg.Fits(c.workload); (err == nil) != (c.fault == "") || err != nil && err.Error() != c.fault {
			t.Errorf("%+v: %v, want %q", c.workload, err, c.fault)
		}
	}
}

// TestPartition compares the largest part with the best of all ways to cut.
func TestPartition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(0, 20), 0, 7).Draw(t, "sizes")
		n := rapid.IntRange(1, 4).Draw(t, "n")
		cuts := parallel.Partition(sizes, n)
		bounds, sum := []int{0}, 0
		for _, s := range sizes {
			sum += s
			bounds = append(bounds, sum)
		}
		if len(cuts) != n+1 || cuts[0] != 0 || cuts[n] != sum || !slices.IsSorted(cuts) {
			t.Fatalf("cuts %v of %v", cuts, sizes)
		}
		worst := 0
		for i, c := range cuts {
			if !slices.Contains(bounds, c) {
				t.Fatalf("cut %d of %v is inside a tensor of %v", c, cuts, sizes)
			}
			if i > 0 {
				worst = max(worst, c-cuts[i-1])
			}
		}
		if want := best(bounds, 0, n); worst != want {
			t.Fatalf("the largest part of %v is %d, it could be %d", cuts, worst, want)
		}
	})
}

// best tries every place of the next cut.
func best(bounds []int, from, n int) int {
	last := len(bounds) - 1
	if n == 1 {
		return bounds[last] - bounds[from]
	}
	least := 1 << 30
	for to := from; to <= last; to++ {
		least = min(least, max(bounds[to]-bounds[from], best(bounds, to, n-1)))
	}
	return least
}

func ExampleMesh() {
	m := parallel.Mesh{Data: 2, Expert: 2}
	for rank := range m.Size() {
		lo, hi := m.Experts(rank, 8)
		fmt.Printf("rank %d: experts %d-%d, reduced over %v\n", rank, lo, hi-1, m.Along(parallel.AxisData, rank))
	}
	// Output:
	// rank 0: experts 0-3, reduced over [0 2]
	// rank 1: experts 4-7, reduced over [1 3]
	// rank 2: experts 0-3, reduced over [0 2]
	// rank 3: experts 4-7, reduced over [1 3]
}
