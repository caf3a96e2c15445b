package config

import (
	"errors"
	"fmt"
	"strings"
)

// ErrInvalid matches every fault of a configuration.
var ErrInvalid = errors.New("invalid configuration")

// maxFaults is how many faults Load reports; the rest are counted.
const maxFaults = 20

// Fault is one thing wrong with a configuration.
type Fault struct {
	Where   string // "file:line:column" or the assignment; empty if not known
	Key     string // "trainer.steps"; empty if the text as a whole is at fault
	Problem string

	cause error
}

func (f *Fault) Error() string {
	var parts []string
	for _, s := range []string{f.Where, f.Key, f.Problem} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// Unwrap makes the fault match ErrInvalid, and what it was made of.
func (f *Fault) Unwrap() []error {
	if f.cause == nil {
		return []error{ErrInvalid}
	}
	return []error{ErrInvalid, f.cause}
}

// Faults gathers what a Validate method finds. The zero value is ready.
type Faults struct{ list []error }

// Add records a fault of a key.
func (f *Faults) Add(key, format string, args ...any) {
	f.list = append(f.list, &Fault{Key: key, Problem: fmt.Sprintf(format, args...)})
}

// Section records the faults that the Validate of a nested struct returned, with
// its key before theirs. They are joined errors that read "key: what is wrong".
func (f *Faults) Section(section string, err error) {
	for _, e := range split(err) {
		fault := Fault{Problem: e.Error(), cause: e}
		if key, problem, ok := strings.Cut(fault.Problem, ": "); ok {
			fault.Key, fault.Problem = key, problem
		}
		fault.Key = join(section, fault.Key)
		f.list = append(f.list, &fault)
	}
}

// Err returns all faults joined, or nil.
func (f *Faults) Err() error { return errors.Join(f.list...) }

// split takes joined errors apart.
func split(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if _, fault := err.(*Fault); !ok || fault {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, split(e)...)
	}
	return all
}

// join puts a section's key before a key within it.
func join(section, key string) string {
	if section == "" || key == "" {
		return section + key
	}
	return section + "." + key
}
