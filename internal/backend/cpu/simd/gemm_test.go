package simd

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// atLevels runs f at every level of the machine. Tests that switch levels are not parallel.
func atLevels(t *testing.T, f func(t *testing.T)) {
	before := Level()
	defer SetLevel(before)
	for _, name := range Levels() {
		if err := SetLevel(name); err != nil {
			t.Fatal(err)
		}
		t.Run(name, f)
	}
}

// gemmSizes mixes tails of every kernel with sizes that take several blocks.
var gemmSizes = [][3]int{ // M, N, K
	{1, 1, 1}, {1, 1, 0}, {3, 5, 0}, {1, 64, 33}, {2, 7, 300}, {4, 100, 70}, {5, 33, 17}, {8, 31, 40}, {9, 16, 8},
	{14, 32, 16}, {15, 48, 24}, {13, 47, 513}, {29, 49, 31}, {27, 80, 15}, {64, 65, 66}, {20, 17, 1025},
	{170, 113, 20}, {343, 70, 15}, {6, 16, 9}, {7, 97, 1}, {16, 70, 1024}, {15, 560, 520},
}

// product makes a problem on guarded memory with rows pad elements longer than needed.
func product(t testing.TB, rng *rand.Rand, m, n, k, pad int, ta, tb, accumulate bool) *Gemm {
	operand := func(rows, columns int, trans bool) Mat {
		if trans {
			rows, columns = columns, rows
		}
		ld := columns + pad
		x := guarded[float32](t, max(0, (rows-1)*ld+columns))
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		return Mat{Data: x, Ld: ld, Trans: trans}
	}
	c := operand(m, n, false)
	return &Gemm{M: m, N: n, K: k, A: operand(m, k, ta), B: operand(k, n, tb), C: c.Data, LdC: c.Ld, Accumulate: accumulate}
}

// strides are the distances between the rows and between the columns of the operand.
func (m Mat) strides() (row, column int) {
	if m.Trans {
		return 1, m.Ld
	}
	return m.Ld, 1
}

// reference returns C in float64 and, for each element, the sum of the magnitudes of what was added.
func (g *Gemm) reference() (want, scale []float64) {
	ai, ak := g.A.strides()
	bk, bj := g.B.strides()
	for i := range g.M {
		for j := range g.N {
			var sum, mag float64
			if g.Accumulate {
				sum = float64(g.C[i*g.LdC+j])
				mag = math.Abs(sum)
			}
			for k := range g.K {
				p := float64(g.A.Data[i*ai+k*ak]) * float64(g.B.Data[k*bk+j*bj])
				sum += p
				mag += math.Abs(p)
			}
			want, scale = append(want, sum), append(scale, mag)
		}
	}
	return want, scale
}

func TestGemmAgainstFloat64(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 2))
		var ws Workspace
		for n, size := range gemmSizes {
			for variant := range 8 {
				ta, tb, accumulate, pad := variant&1 > 0, variant&2 > 0, variant&4 > 0, (n+variant)%2*5
				g := product(t, rng, size[0], size[1], size[2], pad, ta, tb, accumulate)
				want, scale := g.reference()
				before := append([]float32(nil), g.C...)
				g.Run(&ws)
				name := fmt.Sprintf("%v ta=%v tb=%v accumulate=%v pad=%d", size, ta, tb, accumulate, pad)
				checkProduct(t, name, g, want, scale, before)
			}
		}
	})
}

func checkProduct(t *testing.T, name string, g *Gemm, want, scale []float64, before []float32) {
	t.Helper()
	tolerance := 1e-7 * (2 + math.Sqrt(float64(g.K)))
	for at, got := range g.C {
		i, j := at/g.LdC, at%g.LdC
		if j >= g.N {
			if got != before[at] {
				t.Fatalf("%s: wrote between the rows, at %d, %d", name, i, j)
			}
			continue
		}
		if diff := math.Abs(float64(got) - want[i*g.N+j]); !(diff <= tolerance*scale[i*g.N+j]) {
			t.Fatalf("%s: C[%d,%d] = %v, want %v", name, i, j, got, want[i*g.N+j])
		}
	}
}

// The tiles a product is cut into must not show in its bits.
func TestGemmTilesGiveTheSameBits(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 4))
		for _, size := range [][3]int{{45, 200, 700}, {30, 145, 20}, {8, 130, 50}, {11, 100, 90}} {
			for variant := range 4 {
				g := product(t, rng, size[0], size[1], size[2], 0, variant&1 > 0, variant&2 > 0, true)
				before := append([]float32(nil), g.C...)
				var ws Workspace
				g.Run(&ws)
				whole := append([]float32(nil), g.C...)
				for _, rows := range []int{1, 7, 16} {
					copy(g.C, before)
					tileEverything(g, rows)
					for i := range whole {
						if math.Float32bits(g.C[i]) != math.Float32bits(whole[i]) {
							t.Fatalf("%v variant %d, tiles of %d rows: element %d is %v, untiled %v",
								size, variant, rows, i, g.C[i], whole[i])
						}
					}
				}
			}
		}
	})
}

func tileEverything(g *Gemm, rows int) {
	var ws Workspace
	panels := g.Panels()
	base := min(1, panels-1)
	for _, group := range [][2]int{{0, base}, {base, panels}} {
		b := grow(nil, g.PackedLen(group[0], group[1]))
		g.Pack(b, group[0], group[1])
		for p := group[0]; p < group[1]; p++ {
			for i := 0; i < g.M; i += rows {
				g.Tile(&ws, b, group[0], i, min(i+rows, g.M), p, p+1)
			}
		}
	}
}

func TestGemmPropagatesNaNAndInf(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 6))
		var ws Workspace
		for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
			for _, size := range [][3]int{{1, 40, 30}, {6, 40, 30}, {20, 40, 30}, {20, 9, 30}} {
				for variant := range 4 {
					g := product(t, rng, size[0], size[1], size[2], 0, variant&1 > 0, variant&2 > 0, false)
					i, k := size[0]-1, size[2]-1
					if g.A.Trans {
						g.A.Data[k*g.A.Ld+i] = bad
					} else {
						g.A.Data[i*g.A.Ld+k] = bad
					}
					g.Run(&ws)
					for at, v := range g.C {
						finite := !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0)
						if finite == (at/g.LdC == i) {
							t.Fatalf("%v variant %d: C[%d] = %v with %v in row %d of A", size, variant, at, v, bad, i)
						}
					}
				}
			}
		}
	})
}

func TestGemmDoesNotAllocate(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		g := product(t, rand.New(rand.NewPCG(7, 8)), 40, 70, 60, 0, true, true, false)
		var ws Workspace
		if n := testing.AllocsPerRun(10, func() { g.Run(&ws) }); n != 0 {
			t.Errorf("a product with a used workspace allocates %v times", n)
		}
	})
}

func TestGemmChecksItsOperands(t *testing.T) {
	g := product(t, rand.New(rand.NewPCG(9, 10)), 4, 5, 6, 0, false, false, false)
	if err := g.Check(); err != nil {
		t.Error(err)
	}
	g.B.Data = g.B.Data[1:]
	if err := g.Check(); !errors.Is(err, ErrShape) {
		t.Errorf("short B: %v, want ErrShape", err)
	}
	g.B.Data = append(g.B.Data, 0)
	g.LdC = 4
	if err := g.Check(); !errors.Is(err, ErrShape) {
		t.Errorf("overlapping rows of C: %v, want ErrShape", err)
	}
}

var gemmBenchShapes = [][3]int{{256, 256, 256}, {512, 1024, 1024}, {1024, 1024, 4096}, {1024, 48, 512}}

// BenchmarkGemm reports the fraction of the peak that was measured next to it.
func BenchmarkGemm(b *testing.B) {
	before := Level()
	defer SetLevel(before)
	for _, level := range Levels() {
		_ = SetLevel(level)
		for _, s := range gemmBenchShapes {
			for _, trans := range []string{"AB", "ABt", "AtB"} {
				b.Run(fmt.Sprintf("%s/%dx%dx%d/%s", level, s[0], s[1], s[2], trans), func(b *testing.B) {
					g := product(b, rand.New(rand.NewPCG(1, 1)), s[0], s[1], s[2], 0, trans == "AtB", trans == "ABt", false)
					var ws Workspace
					for b.Loop() {
						g.Run(&ws)
					}
					b.ReportMetric(2*float64(g.M)*float64(g.N)*float64(g.K)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				})
			}
		}
	}
}
