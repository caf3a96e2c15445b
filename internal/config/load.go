package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxBytes is the size of the largest text that Load reads.
const MaxBytes = 1 << 20

// File is a text of YAML and the name that faults call it by.
type File struct {
	Name string
	Text []byte
}

// Load changes *dst, a struct of defaults, to what the file says, then to what
// the assignments say, in order: "trainer.steps=500", "optim.betas=[0.9, 0.99]".
// It returns where each value came from and all faults, joined.
func Load(dst any, file File, assignments []string) (Origins, error) {
	root := reflect.ValueOf(dst).Elem()
	origins := Origins{}
	d := &decoder{root: root.Type(), origins: origins}
	d.where = func(n *yaml.Node) string { return fmt.Sprintf("%s:%d:%d", file.Name, n.Line, n.Column) }
	if node, ok := d.parse(file); ok && node.Kind != 0 {
		d.value(root, node, "")
	}
	for _, assignment := range assignments {
		d.assign(root, assignment)
	}
	if n := len(d.faults); n > maxFaults {
		d.faults = append(d.faults[:maxFaults], fmt.Errorf("%w: and %d more faults", ErrInvalid, n-maxFaults))
	}
	return origins, errors.Join(d.faults...)
}

const setPrefix = "--set "

// flagEnd parts what the user typed, in the assignment that a flag stands for, from the
// "key=value". It is in no key.
const flagEnd = "\x00"

// FlagFor is the assignment that a flag stands for, as in FlagFor("--threads", 2,
// "trainer.threads"). Faults and origins name the flag.
func FlagFor(flag string, value any, key string) string {
	return fmt.Sprintf("%s %v%s%s=%v", flag, value, flagEnd, key, value)
}

// assign applies one "key=value".
func (d *decoder) assign(root reflect.Value, assignment string) {
	where, assignment, flag := strings.Cut(assignment, flagEnd)
	if !flag {
		where, assignment = setPrefix+where, where
	}
	d.where = func(*yaml.Node) string { return where }
	key, text, ok := strings.Cut(assignment, "=")
	if !ok || key == "" {
		d.faults = append(d.faults, &Fault{Where: where, Problem: "is not of the form key=value"})
		return
	}
	value, ok := d.parse(File{Name: where, Text: []byte(text)})
	if !ok {
		return
	}
	if value.Kind == 0 {
		value = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
	}
	// A path is a nest of mappings with one key each.
	parts := strings.Split(key, ".")
	for i := len(parts) - 1; i >= 0; i-- {
		name := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: parts[i]}
		value = &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{name, value}}
	}
	d.value(root, value, "")
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// parse returns the one value in a text, of kind 0 if the text is empty, and
// whether the text is sound.
func (d *decoder) parse(file File) (*yaml.Node, bool) {
	problem := func(where, format string, args ...any) (*yaml.Node, bool) {
		d.faults = append(d.faults, &Fault{Where: where, Problem: fmt.Sprintf(format, args...)})
		return nil, false
	}
	if len(file.Text) > MaxBytes {
		return problem(file.Name, "has %d bytes; a configuration has at most %d", len(file.Text), MaxBytes)
	}
	var document, second yaml.Node
	reader := yaml.NewDecoder(bytes.NewReader(file.Text))
	err := reader.Decode(&document)
	switch {
	case errors.Is(err, io.EOF):
		return &yaml.Node{}, true
	case err != nil:
		where, message := file.Name, err.Error()
		if m := yamlLine.FindStringSubmatch(message); m != nil {
			message = message[len(m[0]):]
			if m[1] != "" && !strings.HasPrefix(where, "--") {
				where += ":" + m[1]
			}
		}
		return problem(where, "is not YAML: %s", message)
	case reader.Decode(&second) != io.EOF:
		return problem(file.Name, "has more than one document (a line ---); keep one")
	}
	return document.Content[0], d.plain(&document, 0)
}

// maxDepth is deeper than any configuration nests.
const maxDepth = 32

// plain refuses the parts of YAML that hide what a value is.
func (d *decoder) plain(n *yaml.Node, depth int) bool {
	ok := true
	refuse := func(what string) {
		d.fault(n, "", "%s", what)
		ok = false
	}
	switch {
	case n.Kind == yaml.AliasNode:
		refuse("aliases (*name) are not supported; write the value out")
		return ok // the node it points at was seen
	case n.Anchor != "":
		refuse("anchors (&name) are not supported; write the value out")
	case n.Style&yaml.TaggedStyle != 0:
		refuse("tags (" + n.Tag + ") are not supported")
	case depth > maxDepth:
		refuse(fmt.Sprintf("is nested more than %d deep", maxDepth))
		return ok
	}
	for _, child := range n.Content {
		ok = d.plain(child, depth+1) && ok
	}
	return ok
}
