package data

import (
	"testing"

	"jambalaya/internal/prng"
)

func TestPermutation(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{1, 2, 3, 5, 64, 1000, 65537} {
		p := newPermutation(n, prng.New(1, "permutation"))
		seen := make([]bool, n)
		fixed, neighbours := 0, 0
		for i := range n {
			x := p.at(i)
			if x < 0 || x >= n || seen[x] {
				t.Fatalf("n = %d: %d goes to %d, which is taken or out of range", n, i, x)
			}
			seen[x] = true
			if x == i {
				fixed++
			}
			if i > 0 && x == p.at(i-1)+1 {
				neighbours++
			}
		}
		if n >= 1000 && (fixed > 10 || neighbours > 10) { // one of each is expected
			t.Errorf("n = %d: %d stay, %d follow their neighbour", n, fixed, neighbours)
		}
	}
}

func BenchmarkPermutation(b *testing.B) {
	p := newPermutation(190_000, prng.New(1, "permutation"))
	for i := int64(0); b.Loop(); i++ {
		p.at(i % 190_000)
	}
}
