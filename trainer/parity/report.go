package parity

import (
	"fmt"
	"math"
	"strings"
)

// Tolerances bound what may differ from the reference. The defaults are tight
// enough that a wrong weight decay or epsilon fails.
type Tolerances struct {
	Absolute  float64 // hidden states, logits, loss, aux loss
	Gradient  float64 // relative to the largest element of each tensor
	AdamWLoss float64 // absolute
	AdamWNorm float64 // relative
}

// DefaultTolerances are those of the golden cases.
func DefaultTolerances() Tolerances {
	return Tolerances{Absolute: 2e-5, Gradient: 1e-4, AdamWLoss: 1e-4, AdamWNorm: 5e-4}
}

// Check is one comparison.
type Check struct {
	Name  string
	Error float64
	Limit float64
	Note  string // the tensor with the largest error, say

	// Detail is a check that a summary leaves out if it passes, as another sums it up.
	Detail bool
}

// Pass says whether the error is within the limit; one that is not a number is not.
func (c Check) Pass() bool { return c.Error <= c.Limit }

// Report is the result of one case.
type Report struct {
	Name   string
	Checks []Check
}

// Pass says whether every check passed.
func (r *Report) Pass() bool {
	for _, c := range r.Checks {
		if !c.Pass() {
			return false
		}
	}
	return len(r.Checks) > 0
}

func (r *Report) add(name string, err, limit float64, note string) {
	r.Checks = append(r.Checks, Check{Name: name, Error: err, Limit: limit, Note: note})
}

// String is the block that is printed for a case: every check.
func (r *Report) String() string { return r.block(true) }

// Summary is the block without the details that pass.
func (r *Report) Summary() string { return r.block(false) }

func (r *Report) block(details bool) string {
	width := 0
	for _, c := range r.Checks {
		if details || !c.Detail || !c.Pass() {
			width = max(width, len(c.Name))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.Name)
	for _, c := range r.Checks {
		verdict := "ok"
		if !c.Pass() {
			verdict = "DIFFERS"
		}
		if !details && c.Detail && c.Pass() {
			continue
		}
		line := fmt.Sprintf("  %-*s %9.2e  (limit %.0e)  %-7s %s", width, c.Name, c.Error, c.Limit, verdict, c.Note)
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	if r.Pass() {
		b.WriteString("  PASS\n")
	} else {
		b.WriteString("  FAIL\n")
	}
	return b.String()
}

// maxAbs is the largest absolute difference; NaN where either is not a number.
func maxAbs(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	worst := 0.0
	for i := range got {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if math.IsNaN(d) {
			return math.NaN()
		}
		worst = max(worst, d)
	}
	return worst
}

// relative is the largest absolute difference over the largest element of want.
// Where want is all zero, got has to be too.
func relative(got, want []float32) float64 {
	largest := 0.0
	for _, x := range want {
		largest = max(largest, math.Abs(float64(x)))
	}
	d := maxAbs(got, want)
	if largest == 0 {
		if d == 0 {
			return 0
		}
		return math.Inf(1)
	}
	return d / largest
}
