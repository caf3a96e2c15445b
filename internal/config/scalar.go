package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	wholePattern = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	realPattern  = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

	// ambiguousPattern matches what some version of YAML takes for something
	// other than a string: numbers in all their notations, dates, truth values,
	// null.
	ambiguousPattern = regexp.MustCompile(`^(?i:` +
		`[-+]?[0-9][0-9_]*(:[0-9_.]+)*` + `|[-+]?(0x[0-9a-f_]+|0o?[0-7_]+|0b[01_]+)` +
		`|[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9_]+)(e[-+]?[0-9]+)?` + `|[-+]?\.(inf|nan)` +
		`|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*` + `|y|n|yes|no|on|off|true|false|null|~|<<|=` + `)$`)
)

// setScalar writes a scalar into a bool, number or string and returns what is
// wrong with it, or "".
func setScalar(dst reflect.Value, n *yaml.Node) string {
	quoted := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	if dst.Kind() == reflect.String {
		if !quoted && ambiguousPattern.MatchString(n.Value) {
			return fmt.Sprintf("%s is not a word to all readers of YAML; to mean the text, quote it: %q", n.Value, n.Value)
		}
		dst.SetString(n.Value)
		return ""
	}
	if quoted {
		return fmt.Sprintf("is the text %s, not %s", shown(n.Value), typeName(dst.Type()))
	}
	switch dst.Kind() {
	case reflect.Bool:
		return setBool(dst, n.Value)
	case reflect.Float32, reflect.Float64:
		return setReal(dst, n.Value)
	}
	return setWhole(dst, n.Value)
}

// shown is a text in quotes, cut where it would fill the line of an error.
func shown(text string) string {
	const most = 60
	if len(text) <= most {
		return strconv.Quote(text)
	}
	return strconv.Quote(strings.ToValidUTF8(text[:most], "")) + "..."
}

func setBool(dst reflect.Value, text string) string {
	if text != "true" && text != "false" {
		return shown(text) + " is neither true nor false"
	}
	dst.SetBool(text == "true")
	return ""
}

func setWhole(dst reflect.Value, text string) string {
	if !wholePattern.MatchString(text) {
		if len(text) > 1 && strings.Trim(text, "0123456789") == "" {
			return fmt.Sprintf("%s is 8-based to some readers of YAML; write it without the leading zero", text)
		}
		return shown(text) + " is not a whole number, which is written in plain decimal digits"
	}
	var err error
	if dst.CanUint() {
		var value uint64
		value, err = strconv.ParseUint(text, 10, dst.Type().Bits())
		dst.SetUint(value)
	} else {
		var value int64
		value, err = strconv.ParseInt(text, 10, dst.Type().Bits())
		dst.SetInt(value)
	}
	if err != nil {
		return fmt.Sprintf("%s is out of range for %s", text, typeName(dst.Type()))
	}
	return ""
}

func setReal(dst reflect.Value, text string) string {
	if !realPattern.MatchString(text) {
		return shown(text) + " is not a number; write it like 3, 0.5 or 3e-4"
	}
	value, err := strconv.ParseFloat(text, dst.Type().Bits())
	mantissa := strings.FieldsFunc(text, func(r rune) bool { return r == 'e' || r == 'E' })[0]
	if err != nil || value == 0 && strings.ContainsAny(mantissa, "123456789") {
		return fmt.Sprintf("%s is out of range for %s", text, typeName(dst.Type()))
	}
	dst.SetFloat(value)
	return ""
}

// typeName says what a key of type t takes.
func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a word"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint64:
		return "a whole number of at least 0"
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return fmt.Sprintf("a whole number of %d bits", t.Bits())
	}
	panic(fmt.Sprintf("config: a key cannot have the type %v", t))
}
