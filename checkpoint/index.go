package checkpoint

import (
	"encoding/json"
	"slices"

	"jambalaya/internal/safetensors"
)

const (
	maxIndex   = 256 << 20
	maxParts   = 1 << 10 // of one tensor
	maxDims    = 16
	maxEntries = 1 << 20
)

// Index says where the parts of each tensor lie.
type Index struct {
	Tensors []TensorInfo `json:"tensors"`
}

// TensorInfo describes a tensor of a checkpoint and where its parts lie.
type TensorInfo struct {
	Name  string            `json:"name"`
	DType safetensors.DType `json:"dtype"`
	Shape []int64           `json:"shape"`
	Parts []Part            `json:"parts"`
}

// Part is a box of a tensor: bytes Offset to Offset+Length of a file.
type Part struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	box
}

// encode writes a line a tensor.
func (x *Index) encode() ([]byte, error) {
	out := []byte("{\"tensors\": [")
	for i := range x.Tensors {
		line, err := json.Marshal(&x.Tensors[i])
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(out, '\n'), line...)
	}
	return append(out, "\n]}\n"...), nil
}

func decodeIndex(text []byte) (*Index, error) {
	x := &Index{}
	if err := json.Unmarshal(text, x); err != nil {
		return nil, corrupt("%s: %v", indexName, err)
	}
	if err := x.check(); err != nil {
		return nil, corrupt("%s: %v", indexName, err)
	}
	return x, nil
}

// merge adds the parts of another index.
func (x *Index) merge(o Index) error {
	place := make(map[string]int, len(x.Tensors))
	for i := range x.Tensors {
		place[x.Tensors[i].Name] = i
	}
	for _, t := range o.Tensors {
		i, ok := place[t.Name]
		if !ok {
			x.Tensors = append(x.Tensors, t)
			continue
		}
		mine := &x.Tensors[i]
		if mine.DType != t.DType || !slices.Equal(mine.Shape, t.Shape) {
			return invalid("tensor %q is %s %v on one rank and %s %v on another", t.Name, mine.DType, mine.Shape, t.DType, t.Shape)
		}
		mine.Parts = append(mine.Parts, t.Parts...)
	}
	return nil
}

// check holds an index to its rules: the parts of each tensor cover it exactly.
func (x *Index) check() error {
	if len(x.Tensors) > maxEntries {
		return invalid("%d tensors, at most %d fit", len(x.Tensors), maxEntries)
	}
	seen := make(map[string]bool, len(x.Tensors))
	for i := range x.Tensors {
		t := &x.Tensors[i]
		if seen[t.Name] {
			return invalid("tensor %q is there twice", t.Name)
		}
		seen[t.Name] = true
		if err := t.check(); err != nil {
			return err
		}
	}
	return nil
}

func (t *TensorInfo) check() error {
	bytes, ok := safetensors.ByteSize(t.DType, t.Shape)
	if !ok || len(t.Shape) > maxDims {
		return invalid("tensor %q: size of %s %v", t.Name, t.DType, t.Shape)
	}
	if len(t.Parts) > maxParts {
		return invalid("tensor %q: %d parts, at most %d are allowed", t.Name, len(t.Parts), maxParts)
	}
	covered := int64(0)
	for i, p := range t.Parts {
		if !p.inside(t.Shape) {
			return invalid("tensor %q of shape %v: part at %v of extent %v", t.Name, t.Shape, p.Start, p.Extent)
		}
		if p.Length != p.size()*t.DType.Size() || p.Offset < 0 {
			return invalid("tensor %q: %d bytes at %d for a part of extent %v", t.Name, p.Length, p.Offset, p.Extent)
		}
		for _, other := range t.Parts[:i] {
			if _, overlap := p.intersect(other.box); overlap {
				return invalid("tensor %q: the parts at %v and %v overlap", t.Name, other.Start, p.Start)
			}
		}
		covered += p.Length
	}
	if covered != bytes {
		return invalid("tensor %q: the parts have %d of %d bytes", t.Name, covered, bytes)
	}
	return nil
}
