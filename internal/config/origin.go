package config

import (
	"errors"
	"strings"
)

// Origins says where values came from: the key of each value that is not a
// default, and "file:line:column", or the --set assignment or the flag that gave it.
type Origins map[string]string

// Of returns where the value of a key came from.
func (o Origins) Of(key string) string {
	if where, ok := o[key]; ok {
		return where
	}
	return "default"
}

// Locate adds to each fault of a valid text's values where the value came from.
func Locate(err error, origins Origins) error {
	var all []error
	for _, e := range split(err) {
		if fault, ok := e.(*Fault); ok && fault.Where == "" {
			located := *fault
			list, _, _ := strings.Cut(fault.Key, "[") // a list has one origin
			located.Where = origins[list]
			e = &located
		}
		all = append(all, e)
	}
	return errors.Join(all...)
}
