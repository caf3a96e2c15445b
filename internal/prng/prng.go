package prng

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// Rand is one named sequence of random numbers.
type Rand struct {
	key     [2]uint64
	counter uint64    // of the next block
	block   [4]uint64 // values of the last block
	left    int       // values of block not handed out yet, at its end
}

// New returns the start of the sequence that belongs to seed and name.
func New(seed uint64, name string) *Rand {
	h := sha256.New()
	var s [8]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	h.Write(s[:])
	h.Write([]byte(name))
	sum := h.Sum(nil)
	return &Rand{key: [2]uint64{
		binary.LittleEndian.Uint64(sum[0:]),
		binary.LittleEndian.Uint64(sum[8:]),
	}}
}

// Uint64 returns 64 random bits.
func (r *Rand) Uint64() uint64 {
	if r.left == 0 {
		r.block = philox([4]uint64{r.counter}, r.key)
		r.counter++
		r.left = len(r.block)
	}
	v := r.block[len(r.block)-r.left]
	r.left--
	return v
}

// Float64 returns a number in [0, 1), a multiple of 2^-53.
func (r *Rand) Float64() float64 { return float64(r.Uint64()>>11) * 0x1p-53 }

// IntN returns a number in [0, n), each equally likely. It panics if n < 1.
func (r *Rand) IntN(n int) int {
	if n < 1 {
		panic("prng: IntN of a number below 1")
	}
	// Lemire, "Fast random integer generation in an interval", 2019: the high
	// word of a product is uniform once the few low words that would favour some
	// results are refused.
	bound := uint64(n)
	hi, lo := bits.Mul64(r.Uint64(), bound)
	if lo < bound {
		for threshold := -bound % bound; lo < threshold; {
			hi, lo = bits.Mul64(r.Uint64(), bound)
		}
	}
	return int(hi)
}

// Perm returns a permutation of 0..n-1, each equally likely. It panics if n < 0.
func (r *Rand) Perm(n int) []int {
	p := make([]int, n)
	for i := range p {
		j := r.IntN(i + 1)
		p[i] = p[j]
		p[j] = i
	}
	return p
}

// philox enciphers a counter: ten rounds of Philox-4x64.
func philox(c [4]uint64, k [2]uint64) [4]uint64 {
	const (
		mul0, mul1   = 0xD2E7470EE14C6C93, 0xCA5A826395121157
		weyl0, weyl1 = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
	)
	for range 10 {
		hi0, lo0 := bits.Mul64(mul0, c[0])
		hi1, lo1 := bits.Mul64(mul1, c[2])
		c = [4]uint64{hi1 ^ c[1] ^ k[0], lo1, hi0 ^ c[3] ^ k[1], lo0}
		k[0] += weyl0
		k[1] += weyl1
	}
	return c
}
