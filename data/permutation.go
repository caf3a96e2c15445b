package data

import (
	"math/bits"

	"jambalaya/internal/prng"
)

// permutation is a pseudo-random permutation of 0..n-1 that takes no memory: a
// Feistel network over the smallest even number of bits that holds n, walked along
// its cycle until the value is below n (Black and Rogaway, "Ciphers with arbitrary
// finite domains", 2002).
type permutation struct {
	n    uint64
	half int // bits of each half
	keys [6]uint64
}

func newPermutation(n int64, r *prng.Rand) permutation {
	p := permutation{n: uint64(n), half: (bits.Len64(uint64(n-1)) + 1) / 2}
	for i := range p.keys {
		p.keys[i] = r.Uint64()
	}
	return p
}

// at returns the place of i, which must be below n.
func (p *permutation) at(i int64) int64 {
	x := uint64(i)
	for {
		if x = p.encipher(x); x < p.n {
			return int64(x)
		}
	}
}

func (p *permutation) encipher(x uint64) uint64 {
	mask := uint64(1)<<p.half - 1
	left, right := x>>p.half, x&mask
	for _, key := range p.keys {
		left, right = right, left^(scramble(right^key)&mask)
	}
	return left<<p.half | right
}

// scramble is the finaliser of SplitMix64 (Steele et al., "Fast splittable
// pseudorandom number generators", 2014).
func scramble(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
