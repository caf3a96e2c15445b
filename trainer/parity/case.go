package parity

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"jambalaya/internal/safetensors"
	"jambalaya/model"
)

// goldenCase is a folder as read.
type goldenCase struct {
	name    string
	config  model.Config
	weights *safetensors.File
	golden  *safetensors.File
}

func openCase(dir string) (*goldenCase, error) {
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("parity: %s is not a case (config.json, model.safetensors, golden.safetensors): %w", dir, err)
	}
	c := &goldenCase{name: filepath.Base(filepath.Clean(dir))}
	if c.config, err = model.ReadHFConfig(data); err != nil {
		return nil, fmt.Errorf("parity: %s: %w", dir, err)
	}
	if c.weights, err = safetensors.Open(filepath.Join(dir, "model.safetensors")); err != nil {
		return nil, fmt.Errorf("parity: %w", err)
	}
	if c.golden, err = safetensors.Open(filepath.Join(dir, "golden.safetensors")); err != nil {
		c.weights.Close()
		return nil, fmt.Errorf("parity: %w", err)
	}
	return c, nil
}

func (c *goldenCase) close() {
	c.weights.Close()
	c.golden.Close()
}

// has says whether the reference recorded something.
func (c *goldenCase) has(name string) bool {
	_, err := c.golden.Tensor(name)
	return err == nil
}

// floats reads a recorded float tensor.
func (c *goldenCase) floats(name string) ([]float32, error) {
	t, err := c.golden.Tensor(name)
	if err != nil {
		return nil, fmt.Errorf("parity: %s: %w", c.name, err)
	}
	x, err := t.Float32s()
	if err != nil {
		return nil, fmt.Errorf("parity: %s: %w", c.name, err)
	}
	return x, nil
}

// ints reads a recorded int32 tensor and its shape.
func (c *goldenCase) ints(name string) ([]int32, []int, error) {
	t, err := c.golden.Tensor(name)
	if err != nil {
		return nil, nil, fmt.Errorf("parity: %s: %w", c.name, err)
	}
	x, err := t.Int32s()
	if err != nil {
		return nil, nil, fmt.Errorf("parity: %s: %w", c.name, err)
	}
	return x, toInts(t.Shape), nil
}

// values reads the weights into one slice for each parameter.
func (c *goldenCase) values() ([][]float32, error) {
	params := c.config.Params()
	values := make([][]float32, len(params))
	for i, p := range params {
		values[i] = make([]float32, p.Size())
	}
	if err := c.config.LoadHub(values, hubFile{c.weights, ""}); err != nil {
		return nil, fmt.Errorf("parity: %s: %w", c.name, err)
	}
	return values, nil
}

// hubFile is a safetensors file as a model.HubSource: the tensors whose names
// start with prefix, without it.
type hubFile struct {
	file   *safetensors.File
	prefix string
}

// Shapes implements model.HubSource.
func (h hubFile) Shapes() map[string][]int {
	shapes := map[string][]int{}
	for _, t := range h.file.Tensors {
		if name, ok := strings.CutPrefix(t.Name, h.prefix); ok {
			shapes[name] = toInts(t.Shape)
		}
	}
	return shapes
}

// Tensor implements model.HubSource.
func (h hubFile) Tensor(name string) ([]float32, error) {
	t, err := h.file.Tensor(h.prefix + name)
	if err != nil {
		return nil, err
	}
	return t.Float32s()
}

func toInts(shape []int64) []int {
	ints := make([]int, len(shape))
	for i, n := range shape {
		ints[i] = int(n)
	}
	return ints
}
