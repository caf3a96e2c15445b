package archtest

import (
	"fmt"
	"slices"
	"strings"
)

const module = "jambalaya"

// layers maps each top-level directory to the others it may import.
var layers = map[string][]string{
	"cmd":         {"experiments", "trainer", "configs", "model", "data", "parallel", "checkpoint", "internal"},
	"experiments": {"trainer", "configs", "model", "data", "parallel", "checkpoint", "internal"},
	"trainer":     {"configs", "model", "data", "parallel", "checkpoint", "internal"},
	"model":       {"internal"},
	"data":        {"internal"},
	"parallel":    {"internal"},
	"checkpoint":  {"internal"},
	"internal":    {},
	"configs":     {"internal"},
	"deploy":      {"configs", "internal"},
}

// heavy maps the import path of a dependency (and all below it) to the package
// trees that may import it.
var heavy = map[string][]string{
	"C":                               {},
	"gorgonia.org":                    {"model", "internal/engine"},
	"github.com/apache/arrow":         {"data"},
	"github.com/pkoukk":               {"data"},
	"google.golang.org/grpc":          {"parallel/rpc"},
	"google.golang.org/protobuf":      {"parallel/rpc"},
	"github.com/hashicorp/memberlist": {"parallel/cluster"},
	"github.com/prometheus":           {"trainer/launch"},
	"github.com/ebitengine/purego":    {"internal/backend/cuda", "parallel/nccl"},
	"github.com/spf13/cobra":          {"cmd", "internal/cli"},
	"go.yaml.in/yaml":                 {"internal/config", "deploy"},
	"github.com/nlpodyssey":           {"internal/safetensors"},
}

// edge is one import: a package directory relative to the module's root, and the
// path it imports.
type edge struct {
	from string
	path string
	test bool
}

// check says why an import is not allowed, or nil.
func check(e edge) error {
	if to, inside := strings.CutPrefix(e.path, module+"/"); inside {
		return checkArrow(e, to)
	}
	for dependency, trees := range heavy {
		if !within(e.path, dependency) {
			continue
		}
		if !slices.ContainsFunc(trees, func(tree string) bool { return within(e.from, tree) }) {
			return fmt.Errorf("%s imports %s, which may be imported only in %v", e.from, e.path, trees)
		}
	}
	return nil
}

func checkArrow(e edge, to string) error {
	fromTop, toTop := top(e.from), top(to)
	allowed, known := layers[fromTop]
	switch {
	case !known:
		return fmt.Errorf("%s is in a top-level directory that archtest does not know: give it a place in layers", e.from)
	case fromTop == "configs" && e.test:
		return nil // decodes every preset with the trainer's own code
	case toTop == "cmd":
		return fmt.Errorf("%s imports the command %s", e.from, to)
	case toTop == "experiments" && fromTop == "cmd" && e.from != "cmd/ablate":
		return fmt.Errorf("%s imports %s: only cmd/ablate may", e.from, to)
	case fromTop == toTop || slices.Contains(allowed, toTop):
		return nil
	}
	return fmt.Errorf("%s imports %s, but %s may import only %v", e.from, to, fromTop, allowed)
}

// within reports whether a slash-separated path is tree or below it.
func within(path, tree string) bool {
	return path == tree || strings.HasPrefix(path, tree+"/")
}

func top(path string) string {
	first, _, _ := strings.Cut(path, "/")
	return first
}
