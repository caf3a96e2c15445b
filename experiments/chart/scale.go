package chart

import (
	"fmt"
	"math"
	"strconv"
)

// scale maps values to positions.
type scale struct {
	axis      Axis
	low, high float64 // values, logarithms of them on a logarithmic axis
	from, to  float64 // positions
	ticks     []float64
	digits    int // behind the point, of linear ticks
	empty     bool
}

// newScale makes a scale that holds all values.
func newScale(a Axis, values []float64, from, to float64, horizontal bool) scale {
	s := scale{axis: a, from: from, to: to, low: math.Inf(1), high: math.Inf(-1)}
	for _, v := range values {
		if a.holds(v) {
			s.low, s.high = min(s.low, s.value(v)), max(s.high, s.value(v))
		}
	}
	if s.empty = s.low > s.high; s.empty {
		s.low, s.high = 0, 1
		return s
	}
	if a.Zero {
		s.low = min(s.low, 0)
	}
	if a.Categories != nil {
		s.low, s.high = -0.5, float64(len(a.Categories))-0.5
		for i := range a.Categories {
			s.ticks = append(s.ticks, float64(i))
		}
		return s
	}
	margin := 0.06 * (s.high - s.low)
	if margin == 0 {
		margin = max(0.05*math.Abs(s.low), 1e-3)
	}
	if !horizontal || !a.Log && a.Ticks == nil {
		s.high += margin
	}
	if !(a.Zero && s.low == 0) && !(horizontal && s.low == 0) && !(horizontal && a.Log) {
		s.low -= margin
	}
	s.chooseTicks()
	return s
}

func (s *scale) chooseTicks() {
	switch {
	case s.axis.Ticks != nil:
		s.ticks = s.axis.Ticks
	case s.axis.Log && s.axis.Binary:
		s.ticks = binaryTicks(s.low, s.high)
	case s.axis.Log:
		s.ticks = logTicks(s.low, s.high)
	default:
		s.ticks, s.digits = linearTicks(s.low, s.high)
	}
}

// linearTicks are about five round numbers between two values, and the digits that
// tell them apart.
func linearTicks(low, high float64) (ticks []float64, digits int) {
	const about = 5
	step := math.Pow(10, math.Floor(math.Log10((high-low)/about)))
	for _, f := range []float64{1, 2, 5, 10} {
		if (high-low)/(f*step) <= about+1 {
			step *= f
			break
		}
	}
	digits = max(0, int(math.Ceil(-math.Log10(step)-1e-9)))
	for i := math.Ceil(low/step - 1e-9); i*step <= high+1e-9*step; i++ {
		ticks = append(ticks, i*step+0) // and not -0
	}
	return ticks, digits
}

// binaryTicks are at most six powers of two between two logarithms.
func binaryTicks(low, high float64) []float64 {
	const most = 6
	low, high = low/math.Log10(2), high/math.Log10(2)
	for _, step := range []float64{1, 2, 3, 5, 10, 20} {
		var ticks []float64
		for e := math.Ceil(low/step) * step; e <= high; e += step {
			ticks = append(ticks, math.Exp2(e))
		}
		if len(ticks) <= most {
			return ticks
		}
	}
	return nil
}

// logTicks are the values 1, 2 and 5 times a power of ten between two logarithms,
// or of more than three decades the powers alone. A range too narrow for these has
// linear ticks.
func logTicks(low, high float64) []float64 {
	factors := []float64{1, 2, 5}
	if high-low > 3 {
		factors = factors[:1]
	}
	var ticks []float64
	for e := math.Floor(low); e <= high; e++ {
		for _, f := range factors {
			if v := f * math.Pow(10, e); math.Log10(v) >= low && math.Log10(v) <= high {
				ticks = append(ticks, v)
			}
		}
	}
	if len(ticks) < 3 {
		ticks, _ = linearTicks(math.Pow(10, low), math.Pow(10, high))
	}
	return ticks
}

// holds reports whether a value has a place on the axis.
func (a Axis) holds(v float64) bool { return finite(v) && (!a.Log || v > 0) }

func (s scale) value(v float64) float64 {
	if s.axis.Log {
		return math.Log10(v)
	}
	return v
}

// at is the position of a value.
func (s scale) at(v float64) float64 {
	return s.from + (s.value(v)-s.low)/(s.high-s.low)*(s.to-s.from)
}

func (s scale) format(v float64) string {
	switch {
	case s.axis.Categories != nil:
		return s.axis.Categories[max(0, min(len(s.axis.Categories)-1, int(math.Round(v))))]
	case s.axis.Format != nil:
		return s.axis.Format(v)
	case s.digits > 0:
		return fmt.Sprintf("%.*f", s.digits, v)
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}
