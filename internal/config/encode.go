package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// leaf is a value that has no keys of its own, as one line of YAML.
type leaf struct{ key, text string }

// Encode writes a struct as YAML: every key, in the order of its fields, in the
// one notation that equal values share. It fails on numbers that are not finite and
// on strings that are not UTF-8.
func Encode(cfg any) ([]byte, error) { return encode(cfg, nil) }

// Annotate is Encode with a comment on each line: where the value came from.
func Annotate(cfg any, origins Origins) ([]byte, error) {
	return encode(cfg, origins.Of)
}

// Hash is the SHA-256 of Encode's text, in hexadecimal digits.
func Hash(cfg any) (string, error) {
	return HashOf(cfg, func(string) bool { return true })
}

// HashOf is the Hash that cfg would have without the keys that keep leaves out: that of
// a struct which does not have them yet.
func HashOf(cfg any, keep func(key string) bool) (string, error) {
	all, err := leaves(reflect.ValueOf(cfg), "")
	if err != nil {
		return "", err
	}
	kept := slices.DeleteFunc(all, func(l leaf) bool { return !keep(l.key) })
	sum := sha256.Sum256(lines(kept, nil))
	return hex.EncodeToString(sum[:]), nil
}

// Value is a key and its value, in the notation of Encode.
type Value struct{ Key, Text string }

// Values lists every key of a struct, in order.
func Values(cfg any) ([]Value, error) {
	all, err := leaves(reflect.ValueOf(cfg), "")
	if err != nil {
		return nil, err
	}
	values := make([]Value, len(all))
	for i, l := range all {
		values[i] = Value{l.key, l.text}
	}
	return values, nil
}

// Difference is a key whose values differ.
type Difference struct{ Key, A, B string }

func (d Difference) String() string { return fmt.Sprintf("%s: %s and %s", d.Key, d.A, d.B) }

// Diff returns the keys in which two structs of one type differ, in order.
func Diff(a, b any) ([]Difference, error) {
	as, err := leaves(reflect.ValueOf(a), "")
	if err != nil {
		return nil, err
	}
	bs, err := leaves(reflect.ValueOf(b), "")
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, l := range bs {
		texts[l.key] = l.text
	}
	var all []Difference
	for _, l := range as {
		if texts[l.key] != l.text {
			all = append(all, Difference{l.key, l.text, texts[l.key]})
		}
	}
	return all, nil
}

func encode(cfg any, comment func(key string) string) ([]byte, error) {
	all, err := leaves(reflect.ValueOf(cfg), "")
	if err != nil {
		return nil, err
	}
	return lines(all, comment), nil
}

// lines is the text of leaves, each with a comment if there are any.
func lines(all []leaf, comment func(key string) string) []byte {
	var lines []string
	var sections []string
	width := 0
	for _, l := range all {
		parts := strings.Split(l.key, ".")
		depth := len(parts) - 1
		for i, section := range parts[:depth] {
			if i < len(sections) && sections[i] == section {
				continue
			}
			sections = append(sections[:min(i, len(sections))], section)
			lines = append(lines, strings.Repeat("  ", i)+section+":")
		}
		sections = sections[:depth]
		line := strings.Repeat("  ", depth) + parts[depth] + ": " + l.text
		width = max(width, min(utf8.RuneCountInString(line), maxAligned))
		lines = append(lines, line)
	}
	if comment != nil {
		next := 0
		for i, line := range lines {
			if strings.HasSuffix(line, ":") {
				continue // a section
			}
			lines[i] = fmt.Sprintf("%-*s  # %s", width, line, strings.ReplaceAll(comment(all[next].key), "\n", " "))
			next++
		}
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

// maxAligned is the width of the longest line with which comments line up.
const maxAligned = 48

// leaves lists the values below v in order.
func leaves(v reflect.Value, key string) ([]leaf, error) {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		return leaves(v.Elem(), key)
	}
	if v.Kind() != reflect.Struct {
		text, err := flow(v)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, key, err)
		}
		return []leaf{{key, text}}, nil
	}
	var all []leaf
	for _, f := range fieldsOf(v.Type()) {
		inner, err := leaves(v.Field(f.index), join(key, f.key))
		if err != nil {
			return nil, err
		}
		all = append(all, inner...)
	}
	return all, nil
}

// flow writes a value in one line.
func flow(v reflect.Value) (string, error) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return "null", nil
		}
		return flow(v.Elem())
	case reflect.Bool:
		return strconv.FormatBool(v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10), nil
	case reflect.Float32, reflect.Float64:
		if x := v.Float(); math.IsNaN(x) || math.IsInf(x, 0) {
			return "", fmt.Errorf("%v is not a finite number", x)
		}
		return strconv.FormatFloat(v.Float(), 'g', -1, v.Type().Bits()), nil
	case reflect.String:
		return quote(v.String())
	case reflect.Slice, reflect.Array:
		return flowList(v)
	case reflect.Struct:
		return flowSection(v)
	}
	panic(fmt.Sprintf("config: a key cannot have the type %v", v.Type()))
}

func flowList(v reflect.Value) (string, error) {
	var elements []string
	for i := range v.Len() {
		text, err := flow(v.Index(i))
		if err != nil {
			return "", err
		}
		elements = append(elements, text)
	}
	return "[" + strings.Join(elements, ", ") + "]", nil
}

func flowSection(v reflect.Value) (string, error) {
	var pairs []string
	for _, f := range fieldsOf(v.Type()) {
		text, err := flow(v.Field(f.index))
		if err != nil {
			return "", err
		}
		pairs = append(pairs, f.key+": "+text)
	}
	return "{" + strings.Join(pairs, ", ") + "}", nil
}

var wordPattern = regexp.MustCompile(`^[A-Za-z_./][A-Za-z0-9_./+-]*$`)

// quote writes a string as a word where that is safe, else in double quotes. Go's
// escapes are YAML's, but for bytes that are not UTF-8.
func quote(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("%q is not UTF-8", s)
	}
	if wordPattern.MatchString(s) && !ambiguousPattern.MatchString(s) {
		return s, nil
	}
	return strconv.Quote(s), nil
}
