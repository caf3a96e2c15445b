package checkpoint

import (
	"fmt"
	"path"

	"jambalaya/internal/safetensors"
	"jambalaya/internal/vfs"
)

// Info describes a tensor.
func (c *Checkpoint) Info(name string) (TensorInfo, error) {
	t, ok := c.entries[name]
	if !ok {
		return TensorInfo{}, fmt.Errorf("checkpoint %s: %w: %q", c.Name(), ErrNoTensor, name)
	}
	return *t, nil
}

// Load reads a whole tensor of floats into dst, which must have as many elements.
// F32 is copied; F64, BF16 and F16 are converted.
func (c *Checkpoint) Load(name string, dst []float32) error { return c.LoadPart(name, nil, nil, dst) }

// LoadPart is Load for the part of a tensor that begins at start and has this extent.
func (c *Checkpoint) LoadPart(name string, start, extent []int64, dst []float32) error {
	t, err := c.Info(name)
	if err != nil {
		return err
	}
	part := box{start, extent}
	if start == nil && extent == nil {
		part = whole(t.Shape)
	}
	if !part.inside(t.Shape) || int64(len(dst)) != part.size() {
		return invalid("tensor %q has shape %v: no %d elements at %v of extent %v", name, t.Shape, len(dst), part.Start, part.Extent)
	}
	if t.DType == safetensors.F32 {
		return c.loadBox(t, part, safetensors.Bytes(dst))
	}
	raw := make([]byte, part.size()*t.DType.Size())
	if err := c.loadBox(t, part, raw); err != nil {
		return err
	}
	values, err := safetensors.Tensor{Name: name, DType: t.DType, Data: raw}.Float32s()
	copy(dst, values)
	return err
}

// LoadSlice reads the part of a tensor that begins at start and has this extent
// into dst, row-major and in the tensor's own type, from however many parts the
// tensor was saved in. With both nil it reads the whole tensor.
func (c *Checkpoint) LoadSlice(name string, start, extent []int64, dst []byte) error {
	t, err := c.Info(name)
	if err != nil {
		return err
	}
	want := box{start, extent}
	if start == nil && extent == nil {
		want = whole(t.Shape)
	}
	if !want.inside(t.Shape) {
		return invalid("tensor %q of shape %v has no part at %v of extent %v", name, t.Shape, start, extent)
	}
	if int64(len(dst)) != want.size()*t.DType.Size() {
		return invalid("tensor %q: %d bytes for extent %v of %s", name, len(dst), want.Extent, t.DType)
	}
	return c.loadBox(t, want, dst)
}

func (c *Checkpoint) loadBox(t TensorInfo, want box, dst []byte) error {
	for _, p := range t.Parts {
		common, ok := want.intersect(p.box)
		if !ok {
			continue
		}
		if err := c.loadPart(t, p, common, want, dst); err != nil {
			return fmt.Errorf("checkpoint %s: tensor %q: %w", c.Name(), t.Name, err)
		}
	}
	return nil
}

// loadPart copies what a part and the wanted box have in common.
func (c *Checkpoint) loadPart(t TensorInfo, p Part, common, want box, dst []byte) error {
	f, err := c.fsys.Open(path.Join(c.dir, p.File))
	if err != nil {
		return readError(p.File, err)
	}
	defer f.Close()
	size := t.DType.Size()
	return runs(common, p.box, want, func(inPart, inWant, n int64) error {
		return readFull(f, dst[inWant*size:(inWant+n)*size], p.Offset+inPart*size)
	})
}

// readFull is ReadAt of all or an error.
func readFull(f vfs.File, dst []byte, offset int64) error {
	n, err := f.ReadAt(dst, offset)
	if n == len(dst) {
		return nil
	}
	return fmt.Errorf("%d of %d bytes at %d: %w", n, len(dst), offset, err)
}
