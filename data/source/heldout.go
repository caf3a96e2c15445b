package source

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

const (
	heldOutShare   = 50 // one part in so many
	heldOutLeast   = 1 << 20
	heldOutMost    = 3 << 20
	fewDirectories = 20
)

// chooseHeldOut returns which rows of which files are held out.
func (s *Source) chooseHeldOut(files []file) func(f file, row int) bool {
	if len(s.opts.HeldOut) > 0 {
		return func(f file, _ int) bool {
			return slices.ContainsFunc(s.opts.HeldOut, func(h string) bool { return below(f.path, h) })
		}
	}
	groupOf := func(f file) string { return path.Dir(f.path) }
	groups := sizes(files, groupOf)
	if len(groups) < fewDirectories {
		groupOf = func(f file) string { return f.path }
		groups = sizes(files, groupOf)
	}
	chosen := chooseGroups(groups)
	return func(f file, row int) bool {
		if isRows(f) {
			return order(fmt.Sprintf("%s %d", path.Base(f.path), row))%heldOutShare == 0
		}
		return chosen[groupOf(f)]
	}
}

// isRows reports whether a file holds a document a row.
func isRows(f file) bool {
	ext := path.Ext(f.path)
	return ext == ".jsonl" || ext == ".parquet"
}

// sizes adds up the bytes of each group of files.
func sizes(files []file, groupOf func(file) string) map[string]int64 {
	groups := map[string]int64{}
	for _, f := range files {
		if !isRows(f) {
			groups[groupOf(f)] += f.size
		}
	}
	return groups
}

// chooseGroups takes groups in the order of their hashes up to the bytes wanted,
// leaving out those that would take far more.
func chooseGroups(groups map[string]int64) map[string]bool {
	total := int64(0)
	for _, size := range groups {
		total += size
	}
	want := min(max(total/heldOutShare, heldOutLeast), heldOutMost, total/10)
	names := slices.SortedFunc(maps.Keys(groups), func(a, b string) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), strings.Compare(a, b))
	})
	chosen, have := map[string]bool{}, int64(0)
	for _, name := range names {
		if have < want && have+groups[name] <= want+want/4 {
			chosen[name] = true
			have += groups[name]
		}
	}
	return chosen
}

// order is a hash that depends on a name alone.
func order(name string) uint64 {
	sum := sha256.Sum256([]byte("held-out " + name))
	return binary.BigEndian.Uint64(sum[:])
}

// below reports whether a path is in a directory or is that file.
func below(name, dir string) bool {
	dir = path.Clean(strings.ReplaceAll(dir, `\`, "/"))
	return name == dir || strings.HasPrefix(name, dir+"/")
}

// isGenerated reports whether Go source says that a program wrote it: a line of
// this form before the package clause (https://go.dev/s/generatedcode).
func isGenerated(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimRight(line, "\r\n")
		if bytes.HasPrefix(line, []byte("// Code generated ")) && bytes.HasSuffix(line, []byte(" DO NOT EDIT.")) {
			return true
		}
		if bytes.HasPrefix(line, []byte("package ")) {
			return false
		}
	}
	return false
}
