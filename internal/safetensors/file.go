package safetensors

import (
	"bytes"
	"fmt"
	"os"
)

// File is a file whose bytes are in memory, read or mapped.
type File struct {
	*Header
	data  []byte
	index map[string]int // into Tensors
	unmap func() error
}

// Decode reads a file from memory. Tensors are views of data.
func Decode(data []byte) (*File, error) {
	h, err := ReadHeader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	f := &File{Header: h, data: data, index: make(map[string]int, len(h.Tensors))}
	for i, t := range h.Tensors {
		f.index[t.Name] = i
	}
	return f, nil
}

// Open maps a file into memory, read-only. Tensors and the views made of them are
// valid until Close; writing to one ends the process.
func Open(name string) (*File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the mapping stays
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < prefix || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", name, formatError("not a file of at least %d bytes", prefix))
	}
	data, unmap, err := mapFile(f, int(info.Size()))
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", name, err)
	}
	file, err := Decode(data)
	if err != nil {
		unmap()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	file.unmap = unmap
	return file, nil
}

// Close ends the mapping. A file that was decoded from memory has none.
func (f *File) Close() error {
	if f.unmap == nil {
		return nil
	}
	unmap := f.unmap
	f.unmap = nil
	return unmap()
}

// Tensor returns a tensor by name; its data is a view of the file.
func (f *File) Tensor(name string) (Tensor, error) {
	i, ok := f.index[name]
	if !ok {
		return Tensor{}, fmt.Errorf("%w: %q", ErrNoTensor, name)
	}
	t := f.Tensors[i]
	return Tensor{Name: t.Name, DType: t.DType, Shape: t.Shape, Data: f.data[t.Begin:t.End:t.End]}, nil
}

// Float32s returns the elements as float32: a view of the data if it is F32 and
// aligned, else a copy. F64 is rounded, BF16 and F16 are exact.
func (t Tensor) Float32s() ([]float32, error) {
	switch t.DType {
	case F32:
		return values[float32](t.Data), nil
	case F64:
		return convert(t.Data, func(v float64) float32 { return float32(v) }), nil
	case BF16:
		return convert(t.Data, fromBF16), nil
	case F16:
		return convert(t.Data, fromF16), nil
	}
	return nil, fmt.Errorf("%w: %q is %s, not a float", ErrType, t.Name, t.DType)
}

// Int32s returns the elements as int32: a view of the data if it is I32 and
// aligned, else a copy. I64 elements must fit.
func (t Tensor) Int32s() ([]int32, error) {
	switch t.DType {
	case I32:
		return values[int32](t.Data), nil
	case I64:
		wide := values[int64](t.Data)
		out := make([]int32, len(wide))
		for i, v := range wide {
			out[i] = int32(v)
			if int64(out[i]) != v {
				return nil, fmt.Errorf("%w: element %d of %q is %d, which int32 cannot hold", ErrType, i, t.Name, v)
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("%w: %q is %s, not an integer of 32 or 64 bits", ErrType, t.Name, t.DType)
}

func convert[From number](data []byte, to func(From) float32) []float32 {
	in := values[From](data)
	out := make([]float32, len(in))
	for i, v := range in {
		out[i] = to(v)
	}
	return out
}
