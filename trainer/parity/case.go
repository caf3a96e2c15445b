package parity

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"jambalaya/internal/safetensors"
	"jambalaya/trainer/hub"
)

// goldenName is what the reference computed.
const goldenName = "golden.safetensors"

// goldenCase is a folder as read.
type goldenCase struct {
	name   string
	model  *hub.Model
	golden *safetensors.File
}

func openCase(dir string) (*goldenCase, error) {
	m, err := hub.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s is not a case (%s, %s, %s): %w", dir, hub.ConfigName, hub.WeightsName, goldenName, err)
	}
	if err != nil {
		return nil, fmt.Errorf("parity: %w", err)
	}
	c := &goldenCase{name: filepath.Base(filepath.Clean(dir)), model: m}
	if c.golden, err = safetensors.Open(filepath.Join(dir, goldenName)); err != nil {
		m.Close()
		return nil, fmt.Errorf("parity: %w", err)
	}
	return c, nil
}

func (c *goldenCase) close() {
	c.model.Close()
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

func toInts(shape []int64) []int {
	ints := make([]int, len(shape))
	for i, n := range shape {
		ints[i] = int(n)
	}
	return ints
}
