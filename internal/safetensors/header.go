package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
)

const (
	maxHeader  = 16 << 20
	maxTensors = 1_000_000
	maxDims    = 64
	prefix     = 8 // bytes of the header's length

	metadataKey = "__metadata__"
)

// Info says where a tensor lies: bytes Begin to End of the file.
type Info struct {
	Name  string
	DType DType
	Shape []int64
	Begin int64
	End   int64
}

// Header is the checked header of a file.
type Header struct {
	Tensors  []Info // by position in the file
	Metadata map[string]string
}

// ReadHeader reads and checks the header of a file of size bytes.
func ReadHeader(r io.ReaderAt, size int64) (*Header, error) {
	if size < prefix {
		return nil, formatError("%d bytes are too few", size)
	}
	var length [prefix]byte
	if _, err := r.ReadAt(length[:], 0); err != nil && err != io.EOF {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n > maxHeader || n > uint64(size-prefix) {
		return nil, formatError("header of %d bytes in a file of %d (at most %d are read)", n, size, maxHeader)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(r, prefix, int64(n)), text); err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	h, err := parseHeader(text)
	if err != nil {
		return nil, err
	}
	return h, h.place(prefix+int64(n), size)
}

// place turns offsets relative to the data into ones of the file, and checks that
// the tensors fill it.
func (h *Header) place(start, size int64) error {
	slices.SortStableFunc(h.Tensors, func(a, b Info) int {
		// An empty tensor comes before the one that begins where it does.
		return cmp.Or(cmp.Compare(a.Begin, b.Begin), cmp.Compare(a.End, b.End))
	})
	at := int64(0)
	for i := range h.Tensors {
		t := &h.Tensors[i]
		if t.Begin != at {
			return formatError("tensor %q begins at byte %d of the data, the one before ends at %d", t.Name, t.Begin, at)
		}
		want, ok := ByteSize(t.DType, t.Shape)
		if !ok {
			return formatError("tensor %q: size of %s %v", t.Name, t.DType, t.Shape)
		}
		if t.End-t.Begin != want {
			return formatError("tensor %q: %d bytes for %s %v, want %d", t.Name, t.End-t.Begin, t.DType, t.Shape, want)
		}
		if t.End > size-start {
			return formatError("tensor %q ends at byte %d of %d", t.Name, t.End, size-start)
		}
		at = t.End
		t.Begin += start
		t.End += start
	}
	if at != size-start {
		return formatError("the tensors end at byte %d of the data, the file at %d", at, size-start)
	}
	return nil
}

// headerParser reads the header token by token: encoding/json alone would take
// repeated and misspelt keys.
type headerParser struct{ dec *json.Decoder }

func parseHeader(text []byte) (*Header, error) {
	if len(text) == 0 || text[0] != '{' {
		return nil, formatError("the header does not begin with {")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	p := headerParser{dec}
	h := &Header{}
	err := p.object(func(key string) error {
		if key == metadataKey {
			return p.metadata(h)
		}
		if len(h.Tensors) == maxTensors {
			return formatError("more than %d tensors", maxTensors)
		}
		h.Tensors = append(h.Tensors, Info{Name: key})
		return p.tensor(&h.Tensors[len(h.Tensors)-1])
	})
	if err != nil {
		return nil, err
	}
	if rest := text[dec.InputOffset():]; len(bytes.Trim(rest, " ")) > 0 {
		return nil, formatError("text after the header's end")
	}
	return h, nil
}

// object reads an object with unique keys; field reads the value of one.
func (p headerParser) object(field func(key string) error) error {
	if err := p.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for p.dec.More() {
		key, err := p.str()
		if err != nil {
			return err
		}
		if seen[key] {
			return formatError("%q is there twice", key)
		}
		seen[key] = true
		if err := field(key); err != nil {
			return err
		}
	}
	return p.delim('}')
}

func (p headerParser) metadata(h *Header) error {
	h.Metadata = map[string]string{}
	return p.object(func(key string) (err error) {
		h.Metadata[key], err = p.str()
		return err
	})
}

func (p headerParser) tensor(t *Info) error {
	fields := 0
	err := p.object(func(key string) error {
		fields++
		switch key {
		case "dtype":
			name, err := p.str()
			t.DType = DType(name)
			return err
		case "shape":
			shape, err := p.numbers(maxDims)
			t.Shape = shape
			return err
		case "data_offsets":
			offsets, err := p.numbers(2)
			if err == nil && len(offsets) != 2 {
				err = formatError("%d data_offsets, want 2", len(offsets))
			}
			if err == nil {
				t.Begin, t.End = offsets[0], offsets[1]
			}
			return err
		}
		return formatError("unknown key %q", key)
	})
	if err == nil && fields != 3 {
		err = formatError("dtype, shape and data_offsets are needed")
	}
	if err != nil {
		return fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	return nil
}

func (p headerParser) token() (json.Token, error) {
	token, err := p.dec.Token()
	if err != nil {
		return nil, formatError("header: %v", err)
	}
	return token, nil
}

func (p headerParser) delim(want json.Delim) error {
	token, err := p.token()
	if err == nil && token != want {
		err = formatError("header: %v where %v is due", token, want)
	}
	return err
}

func (p headerParser) str() (string, error) {
	token, err := p.token()
	if err != nil {
		return "", err
	}
	s, ok := token.(string)
	if !ok {
		return "", formatError("header: %v where a text is due", token)
	}
	return s, nil
}

// numbers reads an array of at most limit integers that are not negative.
func (p headerParser) numbers(limit int) ([]int64, error) {
	if err := p.delim('['); err != nil {
		return nil, err
	}
	out := []int64{}
	for p.dec.More() {
		token, err := p.token()
		if err != nil {
			return nil, err
		}
		number, ok := token.(json.Number)
		if !ok {
			return nil, formatError("header: %v where a number is due", token)
		}
		v, err := strconv.ParseUint(number.String(), 10, 63)
		if err != nil {
			return nil, formatError("header: %v is not a size", number)
		}
		if len(out) == limit {
			return nil, formatError("header: more than %d numbers", limit)
		}
		out = append(out, int64(v))
	}
	return out, p.delim(']')
}
