package experiments

import (
	"math"
	"testing"

	"jambalaya/experiments/chart"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9*max(1, math.Abs(b)) }

// TestCompare checks a randomised block design worked by hand: variants 10, 12, 11
// in one seed and 20, 22.6, 20.4 in another.
func TestCompare(t *testing.T) {
	t.Parallel()
	c := Compare([][]float64{{10, 20}, {12, 22.6}, {11, 20.4}}, 0)
	// Means 15, 17.3, 15.7; seeds 11, 21, grand 16. Residuals: ±0, ∓0.3, ±0.3: a sum of
	// squares of 0.36 on 2 degrees of freedom.
	if !near(c.Diff[1], 2.3) || !near(c.Diff[2], 0.7) || !near(c.Noise, math.Sqrt(0.18)) {
		t.Errorf("%+v", c)
	}
	if t975 := 4.302652729911275; !near(c.Half, t975*math.Sqrt(0.18)) { // sqrt(2/2) is 1
		t.Errorf("half %v", c.Half)
	}
	if c.Tie(1) || !c.Tie(0) || !c.Tie(2) {
		t.Error("2.3 is above 1.8, 0.7 is not")
	}
	if !near(c.Pooled, math.Sqrt((50+56.18+44.18)/3)) {
		t.Errorf("pooled %v", c.Pooled)
	}
	one := Compare([][]float64{{1}, {2}}, 0)
	if !math.IsNaN(one.Half) || !one.Tie(1) || one.Diff[1] != 1 {
		t.Errorf("%+v", one)
	}
}

func TestSpikeScore(t *testing.T) {
	t.Parallel()
	losses := make([]float64, 228)
	for i := range losses {
		losses[i] = 2 + 0.1*float64(i%2)
	}
	if s := spikeScore(losses); s != 0 {
		t.Error(s)
	}
	losses[200] = 9
	if s := spikeScore(losses); !near(s, 0.01) {
		t.Error(s)
	}
	if s := spikeScore(losses[:100]); s != 0 {
		t.Error(s)
	}
}

func TestParetoFront(t *testing.T) {
	t.Parallel()
	points := []chart.Point{{X: 3, Y: 1}, {X: 1, Y: 5}, {X: 2, Y: 6}, {X: 1, Y: 4}, {X: 4, Y: 1}}
	front := paretoFront(points, true)
	if len(front) != 2 || front[0] != points[3] || front[1] != points[0] {
		t.Error(front)
	}
	if front = paretoFront(points, false); len(front) != 2 || front[0] != points[1] || front[1] != points[2] {
		t.Error(front)
	}
}

// TestJudgement calls what no table shows a tie, however small the noise.
func TestJudgement(t *testing.T) {
	t.Parallel()
	g, err := load(t, tiny)
	if err != nil {
		t.Fatal(err)
	}
	s := &Results{Grid: g}
	recall := metric{percent: true}
	for _, c := range []struct {
		values [][]float64
		want   string
	}{
		{[][]float64{{1, 1}, {0.9999, 0.9999}}, "tie"},
		{[][]float64{{1, 1}, {0.99, 0.99}}, "worse"},
		{[][]float64{{0.5, 0.5}, {0.7, 0.7}}, "better"},
		{[][]float64{{0.5, 0.5}, {0.4, 0.7}}, "tie"},
	} {
		if got := s.judgement(recall, Compare(c.values, 0), 1); got != c.want {
			t.Errorf("%v: %s, want %s", c.values, got, c.want)
		}
	}
}
