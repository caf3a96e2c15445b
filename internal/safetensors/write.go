package safetensors

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
)

// Tensor is a tensor with its data, row-major and little-endian.
type Tensor struct {
	Name  string
	DType DType
	Shape []int64
	Data  []byte
}

// Spec is a tensor without its data.
type Spec struct {
	Name  string
	DType DType
	Shape []int64
}

// layout places tensors in a file one after the other, in the order given, and
// returns the bytes before the first with where each will lie.
func layout(metadata map[string]string, tensors []Spec) (head []byte, infos []Info, err error) {
	infos = make([]Info, len(tensors))
	seen := make(map[string]bool, len(tensors))
	at := int64(0)
	for i, t := range tensors {
		size, ok := ByteSize(t.DType, t.Shape)
		switch {
		case !ok || size > math.MaxInt64-at:
			return nil, nil, formatError("tensor %q: size of %s %v", t.Name, t.DType, t.Shape)
		case t.Name == metadataKey || seen[t.Name]:
			return nil, nil, formatError("tensor name %q is taken", t.Name)
		}
		seen[t.Name] = true
		infos[i] = Info{Name: t.Name, DType: t.DType, Shape: t.Shape, Begin: at, End: at + size}
		at += size
	}
	head, err = encodeHeader(metadata, infos)
	if err != nil {
		return nil, nil, err
	}
	for i := range infos {
		infos[i].Begin += int64(len(head))
		infos[i].End += int64(len(head))
	}
	return head, infos, nil
}

// encodeHeader writes the length and the JSON text, padded with spaces to eight
// bytes. The object is put together by hand to keep the order of the tensors.
func encodeHeader(metadata map[string]string, infos []Info) ([]byte, error) {
	if len(infos) > maxTensors {
		return nil, formatError("%d tensors, at most %d fit a file", len(infos), maxTensors)
	}
	out := append(make([]byte, prefix), '{')
	field := func(key string, value any) error {
		k, err := json.Marshal(key)
		if err != nil {
			return err
		}
		v, err := json.Marshal(value)
		if err != nil {
			return err
		}
		if len(out) > prefix+1 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, "%s:%s", k, v)
		return nil
	}
	if len(metadata) > 0 {
		if err := field(metadataKey, metadata); err != nil {
			return nil, err
		}
	}
	for _, t := range infos {
		shape := t.Shape
		if shape == nil {
			shape = []int64{} // a scalar; null is not a shape
		}
		err := field(t.Name, struct {
			DType   DType    `json:"dtype"`
			Shape   []int64  `json:"shape"`
			Offsets [2]int64 `json:"data_offsets"`
		}{t.DType, shape, [2]int64{t.Begin, t.End}})
		if err != nil {
			return nil, err
		}
	}
	out = append(out, '}')
	for len(out)%8 != 0 {
		out = append(out, ' ')
	}
	if len(out)-prefix > maxHeader {
		return nil, formatError("header of %d bytes, at most %d are allowed", len(out)-prefix, maxHeader)
	}
	binary.LittleEndian.PutUint64(out, uint64(len(out)-prefix))
	return out, nil
}

// Write writes a file and returns its size and where each tensor lies in it. To
// hash while writing, give it an io.MultiWriter.
func Write(w io.Writer, metadata map[string]string, tensors []Tensor) (int64, []Info, error) {
	specs := make([]Spec, len(tensors))
	for i, t := range tensors {
		specs[i] = Spec{t.Name, t.DType, t.Shape}
		if size, ok := ByteSize(t.DType, t.Shape); ok && size != int64(len(t.Data)) {
			return 0, nil, wrongSize(specs[i], size, len(t.Data))
		}
	}
	head, infos, err := layout(metadata, specs)
	if err != nil {
		return 0, nil, err
	}
	written, err := stream(w, head, infos, func(i int) ([]byte, error) { return tensors[i].Data, nil })
	return written, infos, err
}

// Stream writes a file whose tensors are made one at a time, each valid until the
// next is asked for. It returns the file's size.
func Stream(w io.Writer, metadata map[string]string, tensors []Spec, data func(i int) ([]byte, error)) (int64, error) {
	head, infos, err := layout(metadata, tensors)
	if err != nil {
		return 0, err
	}
	return stream(w, head, infos, func(i int) ([]byte, error) {
		x, err := data(i)
		if size := infos[i].End - infos[i].Begin; err == nil && size != int64(len(x)) {
			err = wrongSize(tensors[i], size, len(x))
		}
		return x, err
	})
}

func wrongSize(t Spec, want int64, got int) error {
	return formatError("tensor %q: %d bytes for %s %v, want %d", t.Name, got, t.DType, t.Shape, want)
}

func stream(w io.Writer, head []byte, infos []Info, data func(i int) ([]byte, error)) (written int64, err error) {
	n, err := w.Write(head)
	written = int64(n)
	for i := 0; err == nil && i < len(infos); i++ {
		var x []byte
		if x, err = data(i); err == nil {
			n, err = w.Write(x)
			written += int64(n)
		}
	}
	return written, err
}
