package safetensors

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	peer "github.com/nlpodyssey/safetensors"
)

var sample = []Tensor{
	{Name: "b", DType: F32, Shape: []int64{2, 2}, Data: Bytes([]float32{1, 2.5, -3, 4})},
	{Name: "a", DType: I32, Shape: []int64{3}, Data: Bytes([]int32{7, -8, 9})},
	{Name: "scalar", DType: F64, Shape: []int64{}, Data: Bytes([]float64{0.5})},
	{Name: "odd", DType: U8, Shape: []int64{3}, Data: []byte{1, 2, 3}},
	{Name: "empty", DType: F32, Shape: []int64{0, 5}, Data: nil},
	{Name: "half", DType: F16, Shape: []int64{2}, Data: Bytes([]uint16{0x3c00, 0xc000})},
	{Name: "brain <&> \"x\"", DType: BF16, Shape: []int64{1}, Data: Bytes([]uint16{0x3f80})},
}

func encode(t testing.TB, metadata map[string]string, tensors []Tensor) []byte {
	t.Helper()
	var buf bytes.Buffer
	n, infos, err := Write(&buf, metadata, tensors)
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(buf.Len()) {
		t.Errorf("Write returned %d bytes, wrote %d", n, buf.Len())
	}
	for i, info := range infos {
		if !bytes.Equal(buf.Bytes()[info.Begin:info.End], tensors[i].Data) {
			t.Errorf("%s is not at %d-%d", info.Name, info.Begin, info.End)
		}
	}
	return buf.Bytes()
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	metadata := map[string]string{"format": "pt", "a": "ä"}
	data := encode(t, metadata, sample)
	if !bytes.Equal(data, encode(t, metadata, sample)) {
		t.Error("two writes differ")
	}
	name := filepath.Join(t.TempDir(), "x.safetensors")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	mapped, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*File{mapped, decoded} {
		if diff := cmp.Diff(metadata, f.Metadata); diff != "" {
			t.Error(diff)
		}
		for i, want := range sample {
			if f.Tensors[i].Name != want.Name {
				t.Errorf("tensor %d is %q, want %q", i, f.Tensors[i].Name, want.Name)
			}
			got, err := f.Tensor(want.Name)
			if err != nil {
				t.Fatal(err)
			}
			if got.DType != want.DType || !slices.Equal(got.Shape, want.Shape) || !bytes.Equal(got.Data, want.Data) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}
		if _, err := f.Tensor("none"); !errors.Is(err, ErrNoTensor) {
			t.Errorf("error %v, want ErrNoTensor", err)
		}
		for range 2 {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestGoldenBytes holds the layout: the file of today is the file of tomorrow.
func TestGoldenBytes(t *testing.T) {
	t.Parallel()
	const want = "90f6e4d2d3faba79"
	sum := sha256.Sum256(encode(t, map[string]string{"z": "1", "a": "2"}, sample))
	if got := fmt.Sprintf("%x", sum[:8]); got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}

func TestPeer(t *testing.T) {
	t.Parallel()
	data := encode(t, map[string]string{"format": "pt"}, sample)
	theirs, err := peer.Deserialize(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range sample {
		got, ok := theirs.Tensor(want.Name)
		if !ok || got.DType().String() != string(want.DType) || !bytes.Equal(got.Data(), want.Data) {
			t.Errorf("the other reader sees %q as %+v", want.Name, got)
		}
	}

	view, err := peer.NewTensorView(peer.F32, []uint64{2}, Bytes([]float32{1, 2}))
	if err != nil {
		t.Fatal(err)
	}
	written, err := peer.Serialize(map[string]peer.TensorView{"x": view}, map[string]string{"k": "v"})
	if err != nil {
		t.Fatal(err)
	}
	ours, err := Decode(written)
	if err != nil {
		t.Fatal(err)
	}
	x, err := ours.Tensor("x")
	if err != nil {
		t.Fatal(err)
	}
	if values, err := x.Float32s(); err != nil || !slices.Equal(values, []float32{1, 2}) || ours.Metadata["k"] != "v" {
		t.Errorf("read %v, %v, metadata %v", values, err, ours.Metadata)
	}
}

func TestConversions(t *testing.T) {
	t.Parallel()
	f, err := Decode(encode(t, nil, sample))
	if err != nil {
		t.Fatal(err)
	}
	floats := map[string][]float32{
		"b": {1, 2.5, -3, 4}, "scalar": {0.5}, "empty": nil, "half": {1, -2}, "brain <&> \"x\"": {1},
	}
	for _, info := range f.Tensors {
		tensor, err := f.Tensor(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		want, isFloat := floats[info.Name]
		got, err := tensor.Float32s()
		if isFloat && (err != nil || !slices.Equal(got, want)) {
			t.Errorf("%s = %v, %v, want %v", info.Name, got, err, want)
		}
		if !isFloat && !errors.Is(err, ErrType) {
			t.Errorf("%s as float32: %v, want ErrType", info.Name, err)
		}
		if ints, err := tensor.Int32s(); info.DType == I32 {
			if err != nil || !slices.Equal(ints, []int32{7, -8, 9}) {
				t.Errorf("%s = %v, %v", info.Name, ints, err)
			}
		} else if !errors.Is(err, ErrType) {
			t.Errorf("%s as int32: %v, want ErrType", info.Name, err)
		}
	}
	wide := Tensor{Name: "wide", DType: I64, Data: Bytes([]int64{-5, math.MaxInt32})}
	if got, err := wide.Int32s(); err != nil || !slices.Equal(got, []int32{-5, math.MaxInt32}) {
		t.Errorf("wide = %v, %v", got, err)
	}
	wide.Data = Bytes([]int64{math.MaxInt32 + 1})
	if _, err := wide.Int32s(); !errors.Is(err, ErrType) {
		t.Errorf("a number beyond int32 gave %v, want ErrType", err)
	}
}

// TestHalf checks every half against its definition.
func TestHalf(t *testing.T) {
	t.Parallel()
	for h := range 1 << 16 {
		sign := 1 - 2*float64(h>>15)
		exponent, fraction := h>>10&31, float64(h&1023)
		var want float64
		switch exponent {
		case 0:
			want = sign * fraction * 0x1p-24
		case 31:
			want = sign * math.Inf(1)
			if fraction != 0 {
				want = math.NaN()
			}
		default:
			want = sign * math.Ldexp(1+fraction/1024, exponent-15)
		}
		got := float64(fromF16(uint16(h)))
		if got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Fatalf("half %#x = %g, want %g", h, got, want)
		}
		if math.Signbit(got) != (h>>15 == 1) {
			t.Fatalf("half %#x has the wrong sign", h)
		}
	}
}

func TestViewsShareMemory(t *testing.T) {
	t.Parallel()
	f, err := Decode(encode(t, nil, sample))
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Tensor("b")
	if err != nil {
		t.Fatal(err)
	}
	view, err := b.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	if &Bytes(view)[0] != &b.Data[0] {
		t.Error("aligned F32 was copied")
	}
	misaligned := Tensor{DType: F32, Data: append([]byte{0}, b.Data...)[1:]}
	if got, err := misaligned.Float32s(); err != nil || !slices.Equal(got, view) {
		t.Errorf("misaligned data = %v, %v", got, err)
	}
}

// file puts a header of any kind before data.
func file(header string, data int) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), make([]byte, data)...)
}

func badFiles() map[string][]byte {
	tensor := func(s string) string { return `{"a":{` + s + `}}` }
	return map[string][]byte{
		"nothing":            {},
		"short length":       {1, 2, 3},
		"huge header":        binary.LittleEndian.AppendUint64(nil, math.MaxUint64),
		"header over limit":  append(binary.LittleEndian.AppendUint64(nil, maxHeader+1), make([]byte, 100)...),
		"header beyond file": append(binary.LittleEndian.AppendUint64(nil, 200), make([]byte, 100)...),
		"empty header":       file("", 0),
		"not an object":      file("[]", 0),
		"leading space":      file(" {}", 0),
		"cut":                file(`{"a":{"dtype":"F32"`, 0),
		"text after":         file(`{}{}`, 0),
		"data without name":  file(`{}`, 4),
		"unknown type":       file(tensor(`"dtype":"F99","shape":[1],"data_offsets":[0,4]`), 4),
		"misspelt key":       file(tensor(`"Dtype":"F32","shape":[1],"data_offsets":[0,4]`), 4),
		"key twice":          file(tensor(`"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]`), 4),
		"key missing":        file(tensor(`"dtype":"F32","shape":[1]`), 4),
		"name twice":         file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2),
		"negative dimension": file(tensor(`"dtype":"F32","shape":[-1],"data_offsets":[0,4]`), 4),
		"fraction":           file(tensor(`"dtype":"F32","shape":[1.0],"data_offsets":[0,4]`), 4),
		"huge number":        file(tensor(`"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]`), 4),
		"product overflows":  file(tensor(`"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]`), 4),
		"overflow to zero":   file(tensor(`"dtype":"F32","shape":[4611686018427387904,4,1],"data_offsets":[0,0]`), 0),
		"three offsets":      file(tensor(`"dtype":"F32","shape":[1],"data_offsets":[0,4,8]`), 4),
		"one offset":         file(tensor(`"dtype":"F32","shape":[1],"data_offsets":[0]`), 4),
		"offsets reversed":   file(tensor(`"dtype":"F32","shape":[1],"data_offsets":[4,0]`), 4),
		"size wrong":         file(tensor(`"dtype":"F32","shape":[2],"data_offsets":[0,4]`), 4),
		"beyond file":        file(tensor(`"dtype":"F32","shape":[1],"data_offsets":[0,4]`), 3),
		"bytes left":         file(tensor(`"dtype":"F32","shape":[1],"data_offsets":[0,4]`), 5),
		"one TiB":            file(tensor(`"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]`), 4),
		"gap":                file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 3),
		"overlap":            file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3),
		"shape of text":      file(tensor(`"dtype":"F32","shape":["1"],"data_offsets":[0,4]`), 4),
		"type of number":     file(tensor(`"dtype":1,"shape":[1],"data_offsets":[0,4]`), 4),
		"nested":             file(tensor(`"dtype":{"dtype":[]},"shape":[1],"data_offsets":[0,4]`), 4),
		"metadata of number": file(`{"__metadata__":{"a":1}}`, 0),
		"many dimensions":    file(tensor(`"dtype":"U8","shape":[1`+strings.Repeat(",1", maxDims)+`],"data_offsets":[0,1]`), 1),
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	for name, data := range badFiles() {
		if _, err := Decode(data); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: error %v, want ErrFormat", name, err)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{dir, filepath.Join(dir, "none")} {
		if _, err := Open(name); err == nil {
			t.Errorf("opened %s", name)
		}
	}
}

// TestBombsAllocateLittle declares sizes that the files do not have.
func TestBombsAllocateLittle(t *testing.T) { // not parallel: it reads the global allocation counter
	files := badFiles()
	for _, name := range []string{"one TiB", "huge header", "header over limit", "product overflows", "huge number"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := Decode(files[name]); err == nil {
			t.Errorf("%s was read", name)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: %d bytes allocated", name, n)
		}
	}
}

func TestWriteErrors(t *testing.T) {
	t.Parallel()
	one := Tensor{Name: "a", DType: U8, Shape: []int64{1}, Data: []byte{1}}
	for name, tensors := range map[string][]Tensor{
		"size":     {{Name: "a", DType: F32, Shape: []int64{2}, Data: make([]byte, 4)}},
		"type":     {{Name: "a", DType: "x", Shape: []int64{2}}},
		"negative": {{Name: "a", DType: U8, Shape: []int64{-1}}},
		"twice":    {one, one},
		"reserved": {{Name: metadataKey, DType: U8, Shape: []int64{1}, Data: []byte{1}}},
	} {
		if _, _, err := Write(&bytes.Buffer{}, nil, tensors); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: error %v, want ErrFormat", name, err)
		}
	}
	long := map[string]string{"x": strings.Repeat("y", maxHeader)}
	if _, _, err := Write(&bytes.Buffer{}, long, nil); !errors.Is(err, ErrFormat) {
		t.Errorf("a header over the limit: %v", err)
	}
	if _, _, err := Write(failing{}, nil, []Tensor{one}); !errors.Is(err, errFull) {
		t.Errorf("error %v, want that of the writer", err)
	}
}

var errFull = errors.New("full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }

func TestReadHeaderErrors(t *testing.T) {
	t.Parallel()
	broken := readerAt(func([]byte, int64) (int, error) { return 0, errFull })
	if _, err := ReadHeader(broken, 100); !errors.Is(err, errFull) || errors.Is(err, ErrFormat) {
		t.Errorf("error %v, want that of the reader", err)
	}
}

type readerAt func([]byte, int64) (int, error)

func (r readerAt) ReadAt(p []byte, off int64) (int, error) { return r(p, off) }

func FuzzDecode(f *testing.F) {
	for _, data := range badFiles() {
		f.Add(data)
	}
	f.Add(encode(f, map[string]string{"k": "v"}, sample))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Decode(data)
		if err != nil {
			return
		}
		total := int64(0)
		tensors := make([]Tensor, len(file.Tensors))
		for i, info := range file.Tensors {
			tensors[i], err = file.Tensor(info.Name)
			if err != nil {
				t.Fatal(err)
			}
			total += int64(len(tensors[i].Data))
			tensors[i].Float32s()
			tensors[i].Int32s()
		}
		if total > int64(len(data)) {
			t.Fatalf("tensors of %d bytes in a file of %d", total, len(data))
		}
		again, err := Decode(encode(t, file.Metadata, tensors))
		if err != nil {
			t.Fatalf("what was read cannot be written and read: %v", err)
		}
		if len(again.Tensors) != len(file.Tensors) {
			t.Fatalf("%d tensors became %d", len(file.Tensors), len(again.Tensors))
		}
	})
}

func BenchmarkReadHeader(b *testing.B) {
	tensors := make([]Tensor, 10_000)
	for i := range tensors {
		tensors[i] = Tensor{Name: fmt.Sprintf("model.layers.%d.weight", i), DType: F32, Shape: []int64{1}, Data: make([]byte, 4)}
	}
	data := encode(b, nil, tensors)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := ReadHeader(bytes.NewReader(data), int64(len(data))); err != nil {
			b.Fatal(err)
		}
	}
}
