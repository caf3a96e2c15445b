package experiments

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// confidence is that of all intervals.
const confidence = 0.95

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// deviation is the standard deviation of a sample; of fewer than two it is NaN.
func deviation(x []float64) float64 {
	m, sum := mean(x), 0.0
	for _, v := range x {
		sum += (v - m) * (v - m)
	}
	return math.Sqrt(sum / float64(len(x)-1))
}

func median(x []float64) float64 {
	if len(x) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(x))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// Comparison sets variants against a reference, over seeds that all of them have.
//
// A measurement is taken for the sum of an effect of its variant, one of its seed
// (all variants of a seed read the same samples), and noise of one variance. So
// the noise is estimated from all variants and seeds together, with
// (variants - 1) (seeds - 1) degrees of freedom, and the mean of the paired
// differences has the standard error noise · sqrt(2 / seeds): the analysis of
// a randomised block design (Box, Hunter and Hunter, "Statistics for
// Experimenters", chapter 4).
type Comparison struct {
	Mean      []float64 // of each variant, over the seeds
	Deviation []float64 // of each variant between seeds
	Pooled    float64   // of all variants between seeds: the noise floor of a single run
	Noise     float64   // what is left when seeds are paired
	Diff      []float64 // mean paired difference to the reference
	Half      float64   // half the width of the interval of each difference; NaN for too few seeds
	Seeds     int
}

// Compare takes values[variant][seed].
func Compare(values [][]float64, reference int) Comparison {
	seeds := len(values[0])
	c := Comparison{Seeds: seeds, Half: math.NaN()}
	effects := make([]float64, seeds) // mean of each seed over the variants
	within := 0.0
	for _, v := range values {
		c.Mean, c.Deviation = append(c.Mean, mean(v)), append(c.Deviation, deviation(v))
		within += deviation(v) * deviation(v)
		for s, x := range v {
			effects[s] += x / float64(len(values))
		}
	}
	c.Pooled = math.Sqrt(within / float64(len(values)))
	grand, residual := mean(c.Mean), 0.0
	for i, v := range values {
		c.Diff = append(c.Diff, c.Mean[i]-c.Mean[reference])
		for s, x := range v {
			d := x - c.Mean[i] - effects[s] + grand
			residual += d * d
		}
	}
	if freedom := float64((len(values) - 1) * (seeds - 1)); freedom > 0 {
		c.Noise = math.Sqrt(residual / freedom)
		t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: freedom}.Quantile((1 + confidence) / 2)
		c.Half = t * c.Noise * math.Sqrt(2/float64(seeds))
	}
	return c
}

// Tie reports whether the interval of a variant's difference holds zero, or there is
// no interval.
func (c Comparison) Tie(variant int) bool { return !(math.Abs(c.Diff[variant]) > c.Half) }
