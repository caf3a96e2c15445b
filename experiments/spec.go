package experiments

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"jambalaya/data/recall"
	"jambalaya/internal/config"
	"jambalaya/trainer"
)

// Spec describes a grid: variants of one run, times seeds.
type Spec struct {
	Title string `yaml:"title"` // of the report
	// Base is the preset or file that every cell starts from, and Set what all of
	// them change of it, as in train --set.
	Base string   `yaml:"base"`
	Set  []string `yaml:"set"`

	Seeds     []uint64  `yaml:"seeds"`
	Variants  []Variant `yaml:"variants"`
	Reference string    `yaml:"reference"` // the variant that the others are compared with
	Match     Match     `yaml:"match"`
	Recall    Recall    `yaml:"recall"`
	Contexts  []int     `yaml:"contexts"` // tokens at which the cache is counted
}

// Variant is one column of the grid: what it changes of the base.
type Variant struct {
	Name string   `yaml:"name"`
	Set  []string `yaml:"set"`
}

// Match makes variants equally large or expensive, by the width of feed-forwards.
type Match struct {
	// By is what is made equal to the reference's: parameters, active (parameters
	// that a token uses), flops (of a token in a sequence of the training's length), or
	// none.
	By        string  `yaml:"by"`
	Tolerance float64 `yaml:"tolerance"` // largest relative difference
}

// Recall mixes synthetic tasks into the training data and measures them.
type Recall struct {
	Share       float64 `yaml:"share"`        // of the samples; 0: no tasks
	Lengths     []int   `yaml:"lengths"`      // tokens of the problems to learn from; divisors of data.sequence_length
	EvalLengths []int   `yaml:"eval_lengths"` // tokens of the problems to measure
	Problems    int     `yaml:"problems"`     // measured, of each task and length
}

// Values of Match.By.
const (
	MatchNone       = "none"
	MatchParameters = "parameters"
	MatchActive     = "active"
	MatchFLOPs      = "flops"
)

// DefaultSpec is what a file changes.
func DefaultSpec() Spec {
	return Spec{
		Title: "Ablation", Base: "nano", Seeds: []uint64{1, 2, 3},
		Match:    Match{By: MatchParameters, Tolerance: 0.01},
		Recall:   Recall{Problems: 200},
		Contexts: []int{4 << 10, 32 << 10, 256 << 10},
	}
}

// LoadSpec reads a YAML text over the defaults, and assignments over both. Those of
// keys of a training configuration ("trainer.steps=100") are added to Set, and so
// apply to every cell.
func LoadSpec(file config.File, assignments []string) (Spec, error) {
	spec := DefaultSpec()
	var own, shared []string
	for _, a := range assignments {
		if isRunKey(a) {
			shared = append(shared, a)
		} else {
			own = append(own, a)
		}
	}
	origins, err := config.Load(&spec, file, own)
	spec.Set = append(spec.Set, shared...)
	if err == nil {
		err = config.Locate(spec.Validate(), origins)
	}
	return spec, err
}

// isRunKey reports whether an assignment is of a section of the training
// configuration.
func isRunKey(assignment string) bool {
	section, _, _ := strings.Cut(assignment, ".")
	t := reflect.TypeFor[trainer.Config]()
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("yaml") == section {
			return true
		}
	}
	return false
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 :._+-]{0,39}$`)

const (
	maxSeeds    = 100
	maxVariants = 64
	maxLength   = 1 << 16
)

// Validate returns every fault that can be seen without the configurations of the
// cells, joined, each with its key.
func (s Spec) Validate() error {
	var f config.Faults
	if s.Base == "" {
		f.Add("base", "is empty; name a preset or a file")
	}
	if n := len(s.Seeds); n < 1 || n > maxSeeds {
		f.Add("seeds", "has %d entries; between 1 and %d are needed, 3 or more to tell a difference from noise", n, maxSeeds)
	}
	if i := repeated(s.Seeds); i >= 0 {
		f.Add("seeds", "has %d twice", s.Seeds[i])
	}
	s.validateVariants(&f)
	switch s.Match.By {
	case MatchNone, MatchParameters, MatchActive, MatchFLOPs:
	default:
		f.Add("match.by", "%q is not one of none, parameters, active, flops", s.Match.By)
	}
	if !(s.Match.Tolerance > 0 && s.Match.Tolerance <= 1) {
		f.Add("match.tolerance", "%v is not above 0 and at most 1", s.Match.Tolerance)
	}
	s.Recall.validate(&f)
	if len(s.Contexts) == 0 || slices.Min(s.Contexts) < 1 || slices.Max(s.Contexts) > math.MaxInt32 || !increasing(s.Contexts) {
		f.Add("contexts", "%v is not a list of increasing numbers of tokens", s.Contexts)
	}
	return f.Err()
}

func (s Spec) validateVariants(f *config.Faults) {
	if n := len(s.Variants); n < 1 || n > maxVariants {
		f.Add("variants", "has %d entries; between 1 and %d are needed", n, maxVariants)
		return
	}
	names := make([]string, len(s.Variants))
	for i, v := range s.Variants {
		if !namePattern.MatchString(v.Name) {
			f.Add(fmt.Sprintf("variants[%d].name", i), "%q is not 1 to 40 letters, digits, blanks and : . _ + -", v.Name)
		}
		names[i] = directoryName(v.Name)
	}
	if i := repeated(names); i >= 0 {
		f.Add("variants", "two of them are called %s", names[i])
	}
	if !slices.ContainsFunc(s.Variants, func(v Variant) bool { return v.Name == s.Reference }) {
		f.Add("reference", "%q is none of the variants", s.Reference)
	}
}

func (r Recall) validate(f *config.Faults) {
	if !(r.Share >= 0 && r.Share < 1) {
		f.Add("recall.share", "%v is not at least 0 and below 1", r.Share)
	}
	if r.Share == 0 {
		return
	}
	lengths := func(key string, list []int) {
		if len(list) == 0 || slices.Min(list) < recall.MinLength || slices.Max(list) > maxLength || !increasing(list) {
			f.Add(key, "%v is not a list of increasing lengths between %d and %d", list, recall.MinLength, maxLength)
		}
	}
	lengths("recall.lengths", r.Lengths)
	lengths("recall.eval_lengths", r.EvalLengths)
	if r.Problems < 1 || r.Problems > 1<<20 {
		f.Add("recall.problems", "%d is not between 1 and %d", r.Problems, 1<<20)
	}
}

// directoryName is a name as a part of a path.
func directoryName(name string) string {
	return strings.NewReplacer(":", "-", " ", "-").Replace(name)
}

// repeated returns the index of the first element that occurred before, or -1.
func repeated[T comparable](all []T) int {
	for i, x := range all {
		if slices.Contains(all[:i], x) {
			return i
		}
	}
	return -1
}

func increasing(all []int) bool {
	for i := 1; i < len(all); i++ {
		if all[i] <= all[i-1] {
			return false
		}
	}
	return true
}
