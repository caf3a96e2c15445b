package config

import (
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder copies a tree of YAML into a struct and gathers what does not fit.
type decoder struct {
	root    reflect.Type
	where   func(*yaml.Node) string
	origins Origins
	faults  []error
}

func (d *decoder) fault(n *yaml.Node, key, format string, args ...any) {
	d.faults = append(d.faults, &Fault{Where: d.where(n), Key: key, Problem: fmt.Sprintf(format, args...)})
}

// value decodes n into dst, which has the given key.
func (d *decoder) value(dst reflect.Value, n *yaml.Node, key string) {
	null := n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
	switch kind := dst.Kind(); {
	case null && kind == reflect.Pointer:
		dst.SetZero()
		d.origins[key] = d.where(n)
	case null:
		d.fault(n, key, "needs a value; delete the line to keep the default")
	case kind == reflect.Pointer:
		if dst.IsNil() {
			dst.Set(reflect.New(dst.Type().Elem()))
		}
		d.value(dst.Elem(), n, key)
	case kind == reflect.Struct:
		d.mapping(dst, n, key)
	case kind == reflect.Slice || kind == reflect.Array:
		d.sequence(dst, n, key)
		d.origins[key] = d.where(n)
	default:
		if n.Kind != yaml.ScalarNode {
			d.fault(n, key, "is %s, not %s", kindName(n), typeName(dst.Type()))
			return
		}
		if problem := setScalar(dst, n); problem != "" {
			d.fault(n, key, "%s", problem)
		}
		d.origins[key] = d.where(n)
	}
}

// mapping decodes a section. Keys it does not name keep their value.
func (d *decoder) mapping(dst reflect.Value, n *yaml.Node, key string) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, key, "is %s, not a section with the keys %s", kindName(n), strings.Join(keysOf(dst.Type()), ", "))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if name.Kind != yaml.ScalarNode {
			d.fault(name, key, "has %s as a key", kindName(name))
			continue
		}
		child := join(key, name.Value)
		if line, ok := seen[name.Value]; ok {
			d.fault(name, child, "is given twice, first in line %d", line)
			continue
		}
		seen[name.Value] = name.Line
		field, ok := fieldOf(dst, name.Value)
		if !ok {
			d.fault(name, child, "unknown key; %s", d.advice(dst.Type(), key, name.Value))
			continue
		}
		d.value(field, value, child)
	}
}

// sequence decodes a list, which replaces the default as a whole.
func (d *decoder) sequence(dst reflect.Value, n *yaml.Node, key string) {
	if n.Kind != yaml.SequenceNode {
		d.fault(n, key, "is %s, not a list", kindName(n))
		return
	}
	length := len(n.Content)
	switch {
	case dst.Kind() == reflect.Slice && length == 0:
		dst.SetZero()
	case dst.Kind() == reflect.Slice:
		dst.Set(reflect.MakeSlice(dst.Type(), length, length))
	case dst.Len() != length:
		d.fault(n, key, "has %d elements, not %d", length, dst.Len())
		return
	}
	inner := decoder{root: d.root, where: d.where, origins: Origins{}} // a list has one origin
	for i, element := range n.Content {
		inner.value(dst.Index(i), element, fmt.Sprintf("%s[%d]", key, i))
	}
	d.faults = append(d.faults, inner.faults...)
}

// field is a key of a section.
type field struct {
	key   string
	index int
}

// fieldsOf returns the keys of a struct in order.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("yaml")
		if key == "-" {
			continue
		}
		if key == "" || strings.Contains(key, ",") || !f.IsExported() {
			panic(fmt.Sprintf("config: field %s of %v needs a plain yaml tag", f.Name, t))
		}
		fields = append(fields, field{key, i})
	}
	return fields
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for _, f := range fieldsOf(t) {
		keys = append(keys, f.key)
	}
	return keys
}

func fieldOf(v reflect.Value, key string) (reflect.Value, bool) {
	for _, f := range fieldsOf(v.Type()) {
		if f.key == key {
			return v.Field(f.index), true
		}
	}
	return reflect.Value{}, false
}

// advice says what an unknown key of section t may have been meant to be.
func (d *decoder) advice(t reflect.Type, section, key string) string {
	keys := keysOf(t)
	if near := Nearest(key, keys); near != "" {
		return fmt.Sprintf("did you mean %s?", join(section, near))
	}
	if path := findKey(d.root, "", key); path != "" {
		return fmt.Sprintf("did you mean %s?", path)
	}
	return "keys here are " + strings.Join(keys, ", ")
}

// findKey returns the path of a key in any section of t, or "".
func findKey(t reflect.Type, section, key string) string {
	for _, f := range fieldsOf(t) {
		path := join(section, f.key)
		if f.key == key {
			return path
		}
		if inner := t.Field(f.index).Type; inner.Kind() == reflect.Struct {
			if found := findKey(inner, path, key); found != "" {
				return found
			}
		}
	}
	return ""
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return "a list"
	}
	return shown(n.Value)
}
