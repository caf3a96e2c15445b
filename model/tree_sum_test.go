package model

import (
	"math/rand/v2"
	"slices"
	"testing"

	"jambalaya/internal/backend/cpu"
	"jambalaya/internal/engine"
)

// TestTreeSum adds up tensors of mixed magnitudes, whose order shows in the last bits, and
// twice, as what is kept of one sum must not get into the next.
func TestTreeSum(t *testing.T) {
	t.Parallel()
	be := cpu.New(1)
	defer be.Close()
	const size = 100
	x := &engine.Tensor{Shape: []int{size}, DType: engine.Float32}
	var err error
	if x.Mem, err = be.Alloc(x.Bytes()); err != nil {
		t.Fatal(err)
	}
	defer be.Free(x.Mem)
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 4, 8, 16} {
		s, err := NewTreeSum(be, x, n)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			parts := make([][]float32, n)
			for i := range parts {
				for k := range size {
					parts[i] = append(parts[i], (random.Float32()-0.5)*float32(int(1)<<(2*(k%8))))
				}
				if err := be.Write(x, parts[i]); err != nil {
					t.Fatal(err)
				}
				if err := s.Add(i); err != nil {
					t.Fatal(err)
				}
			}
			got, want := make([]float32, size), halves(parts)
			if err := be.Read(got, x); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d tensors: %v, want %v", n, got[:8], want[:8])
			}
		}
		s.Close()
	}
}

// halves adds the sums of both halves.
func halves(x [][]float32) []float32 {
	if len(x) == 1 {
		return slices.Clone(x[0])
	}
	sum := halves(x[:len(x)/2])
	for i, v := range halves(x[len(x)/2:]) {
		sum[i] += v
	}
	return sum
}
