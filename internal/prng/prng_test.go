package prng

import (
	"math"
	"testing"
)

// The known answers of the authors' Random123 library (kat_vectors).
func TestPhiloxKnownAnswers(t *testing.T) {
	t.Parallel()
	const ones = math.MaxUint64
	for _, c := range []struct {
		counter [4]uint64
		key     [2]uint64
		want    [4]uint64
	}{
		{want: [4]uint64{0x16554d9eca36314c, 0xdb20fe9d672d0fdc, 0xd7e772cee186176b, 0x7e68b68aec7ba23b}},
		{
			[4]uint64{ones, ones, ones, ones}, [2]uint64{ones, ones},
			[4]uint64{0x87b092c3013fe90b, 0x438c3c67be8d0224, 0x9cc7d7c69cd777b6, 0xa09caebf594f0ba0},
		},
		{
			[4]uint64{0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89},
			[2]uint64{0x452821e638d01377, 0xbe5466cf34e90c6c},
			[4]uint64{0xa528f45403e61d95, 0x38c72dbd566e9788, 0xa5a1610e72fd18b5, 0x57bd43b5e52b7fe6},
		},
	} {
		if got := philox(c.counter, c.key); got != c.want {
			t.Errorf("philox(%x, %x) = %x, want %x", c.counter, c.key, got, c.want)
		}
	}
}

// TestGolden holds the values that trained models depend on: they never change.
func TestGolden(t *testing.T) {
	t.Parallel()
	r := New(42, "init/layers.0")
	for i, want := range goldenUint64 {
		if got := r.Uint64(); got != want {
			t.Errorf("Uint64 %d = %#x, want %#x", i, got, want)
		}
	}
	r = New(42, "init/layers.0")
	for i, want := range goldenNormal {
		if got := math.Float64bits(r.Normal()); got != want {
			t.Errorf("Normal %d = %#x, want %#x", i, got, want)
		}
	}
	hash := uint64(0)
	for range 100_000 {
		hash = hash*31 + math.Float64bits(r.Normal())
	}
	if hash != goldenNormalHash {
		t.Errorf("hash of 100,000 normals = %#x, want %#x", hash, uint64(goldenNormalHash))
	}
	for i, got := range New(7, "perm").Perm(10) {
		if got != goldenPerm[i] {
			t.Errorf("Perm[%d] = %d, want %d", i, got, goldenPerm[i])
		}
	}
}

func TestStreamsDiffer(t *testing.T) {
	t.Parallel()
	seen := map[uint64]string{}
	for _, seed := range []uint64{0, 1, 1 << 63} {
		for _, name := range []string{"", "a", "b", "ab", "init/layers.1", "init/layers.10"} {
			v := New(seed, name).Uint64()
			if other, ok := seen[v]; ok {
				t.Errorf("seed %d, %q begins like %q", seed, name, other)
			}
			seen[v] = name
		}
	}
}

func TestFloat64(t *testing.T) {
	t.Parallel()
	const n = 200_000
	r, sum := New(1, "float"), 0.0
	for range n {
		v := r.Float64()
		if v < 0 || v >= 1 {
			t.Fatalf("Float64 = %g", v)
		}
		sum += v
	}
	if mean := sum / n; math.Abs(mean-0.5) > 0.003 { // 4.6 standard errors
		t.Errorf("mean %g, want 0.5", mean)
	}
}

func TestNormalMoments(t *testing.T) {
	t.Parallel()
	const n = 500_000
	r := New(1, "normal")
	var m1, m2, m3, m4, beyond3 float64
	for range n {
		v := r.Normal()
		m1 += v / n
		m2 += v * v / n
		m3 += v * v * v / n
		m4 += v * v * v * v / n
		if math.Abs(v) > 3 {
			beyond3 += 1.0 / n
		}
	}
	for _, c := range []struct {
		name            string
		got, want, slop float64
	}{
		{"mean", m1, 0, 0.007}, {"variance", m2, 1, 0.01}, {"skew", m3, 0, 0.03}, {"kurtosis", m4, 3, 0.07},
		{"P(|x|>3)", beyond3, 0.0026998, 0.0004},
	} {
		if math.Abs(c.got-c.want) > c.slop {
			t.Errorf("%s = %g, want %g", c.name, c.got, c.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	check := func(p float64) {
		got, want := quantile(p), math.Sqrt2*math.Erfinv(2*p-1)
		if math.Abs(got-want) > 1e-13*math.Max(1, math.Abs(want)) {
			t.Errorf("quantile(%g) = %.17g, want %.17g", p, got, want)
		}
		if mirror := quantile(1 - p); math.Abs(got+mirror) > 1e-12 {
			t.Errorf("quantile(%g) = %g is not the mirror of %g", p, got, mirror)
		}
	}
	for i := 1; i < 1000; i++ {
		check(float64(i) / 1000)
	}
	// Erfinv loses digits deep in the tails; tabulated values replace it there.
	for p, want := range map[float64]float64{1e-10: -6.361340902404056, 1e-15: -7.941345326170998, 0x1p-53: -8.209536151601387} {
		if got := quantile(p); math.Abs(got-want) > 1e-13*math.Abs(want) {
			t.Errorf("quantile(%g) = %.17g, want %.17g", p, got, want)
		}
	}
}

func TestLogarithm(t *testing.T) {
	t.Parallel()
	r := New(3, "log")
	for range 10_000 {
		x := math.Ldexp(0.5+r.Float64(), r.IntN(120)-60)
		got, want := logarithm(x), math.Log(x)
		if math.Abs(got-want) > 4e-16*math.Max(1, math.Abs(want)) {
			t.Fatalf("logarithm(%g) = %.17g, want %.17g", x, got, want)
		}
	}
}

func TestIntN(t *testing.T) {
	t.Parallel()
	r := New(5, "int")
	const n, draws = 7, 70_000
	var counts [n]int
	for range draws {
		counts[r.IntN(n)]++
	}
	for i, c := range counts {
		if math.Abs(float64(c)-draws/n) > 5*math.Sqrt(draws/n) {
			t.Errorf("%d came %d times of %d", i, c, draws)
		}
	}
	// A bound just over half the range refuses nearly half of all words.
	for range 1000 {
		if v := r.IntN(math.MaxInt/2 + 2); v < 0 || v > math.MaxInt/2+1 {
			t.Fatalf("IntN out of range: %d", v)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("IntN(0) did not panic")
		}
	}()
	r.IntN(0)
}

func TestPerm(t *testing.T) {
	t.Parallel()
	var first [5]int
	for seed := range uint64(20_000) {
		p := New(seed, "p").Perm(5)
		seen := [5]bool{}
		for _, v := range p {
			seen[v] = true
		}
		if seen != [5]bool{true, true, true, true, true} {
			t.Fatalf("not a permutation: %v", p)
		}
		first[p[0]]++
	}
	for v, c := range first {
		if math.Abs(float64(c)-4000) > 5*math.Sqrt(4000) {
			t.Errorf("%d came first %d times of 20,000", v, c)
		}
	}
}

func BenchmarkUint64(b *testing.B) {
	r := New(1, "bench")
	for b.Loop() {
		r.Uint64()
	}
}

func BenchmarkNormal(b *testing.B) {
	r := New(1, "bench")
	for b.Loop() {
		r.Normal()
	}
}
