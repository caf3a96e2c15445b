package main

import (
	"slices"
	"strings"
	"testing"
)

func TestParseRows(t *testing.T) {
	known := []int{1, 12, 13, 14, 20}
	for _, c := range []struct {
		list string
		want []int
		err  string
	}{
		{"", nil, ""},
		{"1", []int{1}, ""},
		{"12-14, 1,13", []int{12, 13, 14, 1}, ""},
		{"2-19", []int{12, 13, 14}, ""},
		{"2", nil, "there is no row 2"},
		{"2-11", nil, "no row is in"},
		{"14-12", nil, "neither a row nor a range"},
		{"x", nil, "neither a row nor a range"},
		{"1,", nil, "neither a row nor a range"},
	} {
		got, err := parseRows(c.list, known)
		if !slices.Equal(got, c.want) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: got %v, %v", c.list, got, err)
		}
	}
}
