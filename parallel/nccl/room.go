package nccl

import (
	"encoding/binary"

	"jambalaya/internal/backend/cuda"
	"jambalaya/internal/engine"
)

// room is memory of the device for data of the host.
type room struct {
	backend *cuda.Backend
	memory  engine.Memory
	words   []int32 // the host's data in whole words
}

// place returns room for in and out bytes, which are one place if same is set.
func (r *room) place(in, out int, same bool) (from, to *engine.Tensor, err error) {
	// 256 bytes apart, as the device likes its addresses.
	second := (in + 255) &^ 255
	if same {
		second = 0
	}
	need := int64(max(in, second+out, 4) + 3)
	if r.memory == nil || r.memory.Bytes() < need {
		r.close()
		if r.memory, err = r.backend.Alloc(need); err != nil {
			return nil, nil, err
		}
	}
	tensor := func(at, n int) *engine.Tensor {
		return &engine.Tensor{Shape: []int{(n + 3) / 4}, DType: engine.Int32, Mem: r.memory, Off: int64(at)}
	}
	return tensor(0, in), tensor(second, out), nil
}

func (r *room) close() {
	if r.memory != nil {
		r.backend.Free(r.memory)
		r.memory = nil
	}
}

// write copies data to the device, in whole words.
func (r *room) write(t *engine.Tensor, data []byte) error {
	r.words = r.words[:0]
	for len(data) >= 4 {
		r.words = append(r.words, int32(binary.LittleEndian.Uint32(data)))
		data = data[4:]
	}
	if len(data) > 0 {
		var last [4]byte
		copy(last[:], data)
		r.words = append(r.words, int32(binary.LittleEndian.Uint32(last[:])))
	}
	return r.backend.Write(t, r.words)
}

// read copies data from the device.
func (r *room) read(data []byte, t *engine.Tensor) error {
	r.words = append(r.words[:0], make([]int32, t.Size())...)
	if err := r.backend.Read(r.words, t); err != nil {
		return err
	}
	var word [4]byte
	for i, w := range r.words {
		binary.LittleEndian.PutUint32(word[:], uint32(w))
		copy(data[4*i:], word[:])
	}
	return nil
}
