package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

func TestImports(t *testing.T) {
	t.Parallel()
	edges, err := imports(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(edges) < 20 {
		t.Fatalf("found only %d imports below %s: is it the module's root?", len(edges), root)
	}
	for _, e := range edges {
		if err := check(e); err != nil {
			t.Error(err)
		}
	}
}

// TestCheck plants imports of every kind.
func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		edge edge
		ok   bool
	}{
		{edge{from: "cmd/train", path: "jambalaya/trainer"}, true},
		{edge{from: "cmd/ckpt", path: "jambalaya/checkpoint"}, true},
		{edge{from: "cmd/ablate", path: "jambalaya/experiments/ratio"}, true},
		{edge{from: "cmd/train", path: "jambalaya/experiments/ratio"}, false},
		{edge{from: "cmd/train", path: "jambalaya/cmd/shard"}, false},
		{edge{from: "trainer", path: "jambalaya/trainer/optim"}, true},
		{edge{from: "trainer", path: "jambalaya/model"}, true},
		{edge{from: "trainer", path: "jambalaya/experiments"}, false},
		{edge{from: "model", path: "jambalaya/model/op"}, true},
		{edge{from: "model", path: "jambalaya/internal/engine"}, true},
		{edge{from: "model", path: "jambalaya/data"}, false},
		{edge{from: "model", path: "jambalaya/data", test: true}, false},
		{edge{from: "parallel/rpc", path: "jambalaya/checkpoint"}, false},
		{edge{from: "internal/engine", path: "jambalaya/internal/backend/cpu"}, true},
		{edge{from: "internal/engine", path: "jambalaya/model/op"}, false},
		{edge{from: "configs", path: "jambalaya/trainer"}, false},
		{edge{from: "configs", path: "jambalaya/trainer", test: true}, true},
		{edge{from: "models", path: "jambalaya/internal/prng"}, false},
		{edge{from: "model/op", path: "gorgonia.org/gorgonia"}, true},
		{edge{from: "internal/engine", path: "gorgonia.org/tensor"}, true},
		{edge{from: "internal/backend/cpu", path: "gorgonia.org/tensor"}, false},
		{edge{from: "data", path: "github.com/apache/arrow/go/v15/arrow"}, true},
		{edge{from: "trainer", path: "github.com/apache/arrow/go/v15/arrow"}, false},
		{edge{from: "internal/backend/cuda", path: "C"}, false},
		{edge{from: "trainer", path: "github.com/spf13/cobra"}, false},
		{edge{from: "trainer", path: "fmt"}, true},
	} {
		if err := check(c.edge); (err == nil) != c.ok {
			t.Errorf("check(%+v) = %v, want allowed = %v", c.edge, err, c.ok)
		}
	}
}

// imports reads the import clauses of every Go file of the module at dir.
func imports(dir string) ([]edge, error) {
	var edges []edge
	files := token.NewFileSet()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skip(dir, name, d)
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(files, name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		from, err := filepath.Rel(dir, filepath.Dir(name))
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			edges = append(edges, edge{
				from: path.Clean(filepath.ToSlash(from)),
				path: imported,
				test: strings.HasSuffix(name, "_test.go"),
			})
		}
		return nil
	})
	return edges, err
}

// skip leaves out hidden folders, test data and modules of their own.
func skip(root, name string, d fs.DirEntry) error {
	if name == root {
		return nil
	}
	if strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}
