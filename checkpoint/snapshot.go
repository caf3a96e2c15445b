package checkpoint

import (
	"slices"
	"strconv"
	"strings"

	"jambalaya/internal/safetensors"
)

// Snapshot is what Save writes. Of many processes each brings its own tensors and
// parts of tensors; the groups of experts are of one process each. The state is that
// of rank 0.
type Snapshot struct {
	State   State
	Tensors []Tensor
}

// Tensor is a tensor to save, or a part of one: several with one name, DType and
// Shape, at different places, make up a whole, and may be in different groups.
type Tensor struct {
	Name  string
	Group string // the file it goes to: GroupModel, GroupOptim or an ExpertGroup
	DType safetensors.DType
	Shape []int64 // of the whole tensor
	// Start and Extent say which part of Shape Data holds; nil if it is the whole.
	Start, Extent []int64
	Data          []byte // row-major, little-endian; see safetensors.Bytes
}

func (t *Tensor) box() box {
	if t.Start == nil && t.Extent == nil {
		return whole(t.Shape)
	}
	return box{t.Start, t.Extent}
}

// nameInFile is the tensor's own name, or for a part one that says which: a file
// may hold several.
func (t *Tensor) nameInFile() string {
	if t.Start == nil && t.Extent == nil {
		return t.Name
	}
	parts := make([]string, len(t.Start))
	for d, s := range t.Start {
		parts[d] = strconv.FormatInt(s, 10)
	}
	return t.Name + "@" + strings.Join(parts, ",")
}

// batch is a snapshot sorted into the files that it becomes.
type batch struct {
	step  int64
	state []byte // encoded
	files []batchFile
	index Index
}

type batchFile struct {
	name    string
	tensors []safetensors.Tensor
	parts   []partRef
}

// partRef points to the part of the index that belongs to a tensor of a file.
type partRef struct{ tensor, part int }

// newBatch sorts and checks a snapshot of a process of size. The tensors' data is not
// copied, and the offsets in the index are still to be filled in.
func newBatch(s *Snapshot, rank, size int) (*batch, error) {
	state, err := s.State.encode()
	if err != nil || s.State.Step < 0 {
		return nil, invalid("state of step %d: %v", s.State.Step, err)
	}
	b := &batch{step: s.State.Step, state: state}
	entries := map[string]int{} // name -> index.Tensors
	files := map[string]int{}   // name -> files
	for i := range s.Tensors {
		t := &s.Tensors[i]
		name := fileOf(t.Group, rank, size)
		if !safeName.MatchString(name) {
			return nil, invalid("tensor %q: group %q is not a file name", t.Name, t.Group)
		}
		e, ok := entries[t.Name]
		if !ok {
			e = len(b.index.Tensors)
			entries[t.Name] = e
			b.index.Tensors = append(b.index.Tensors, TensorInfo{Name: t.Name, DType: t.DType, Shape: t.Shape})
		}
		entry := &b.index.Tensors[e]
		if entry.DType != t.DType || !slices.Equal(entry.Shape, t.Shape) {
			return nil, invalid("tensor %q is %s %v in one part and %s %v in another", t.Name, entry.DType, entry.Shape, t.DType, t.Shape)
		}
		f, ok := files[name]
		if !ok {
			f = len(b.files)
			files[name] = f
			b.files = append(b.files, batchFile{name: name})
		}
		file := &b.files[f]
		file.parts = append(file.parts, partRef{e, len(entry.Parts)})
		file.tensors = append(file.tensors, safetensors.Tensor{
			Name: t.nameInFile(), DType: t.DType, Shape: t.box().Extent, Data: t.Data,
		})
		entry.Parts = append(entry.Parts, Part{File: name, Length: int64(len(t.Data)), box: t.box()})
	}
	if size > 1 { // what is missing here, others may have
		return b, nil
	}
	return b, b.index.check()
}

// bytes is the size of all data.
func (b *batch) bytes() int {
	total := 0
	for _, f := range b.files {
		for _, t := range f.tensors {
			total += len(t.Data)
		}
	}
	return total
}

// stage copies the tensors' data to a buffer, which it returns, larger if need be.
func (b *batch) stage(buf []byte) []byte {
	total := b.bytes()
	if cap(buf) < total {
		buf = make([]byte, total)
	}
	at := 0
	for _, f := range b.files {
		for i := range f.tensors {
			n := copy(buf[at:total], f.tensors[i].Data)
			f.tensors[i].Data = buf[at : at+n : at+n]
			at += n
		}
	}
	return buf
}
