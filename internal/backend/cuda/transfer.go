package cuda

import (
	"fmt"
	"sync"
	"unsafe"

	"jambalaya/internal/engine"
)

// staging is page-locked host memory in two halves, through which transfers go:
// while the device reads or writes one, the host copies the other.
type staging struct {
	mu    sync.Mutex
	base  unsafe.Pointer
	halfs [2]half
	next  int
}

type half struct {
	data  []byte
	event uintptr // done with data
}

const stagingBytes = 32 << 20

func newStaging(b *Backend) (*staging, error) {
	d, s := b.driver, &staging{}
	if err := d.check("page-locked memory", syscall(d.hostAlloc, uintptr(unsafe.Pointer(&s.base)), stagingBytes, 0)); err != nil {
		return nil, err
	}
	all := unsafe.Slice((*byte)(s.base), stagingBytes)
	for i := range s.halfs {
		h := &s.halfs[i]
		h.data = all[i*stagingBytes/2:][:stagingBytes/2]
		const noTiming = 2
		if err := d.check("make an event", syscall(d.eventCreate, uintptr(unsafe.Pointer(&h.event)), noTiming)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *staging) close(d *driver) {
	if s == nil {
		return
	}
	for i := range s.halfs {
		syscall(d.eventDestroy, s.halfs[i].event)
	}
	syscall(d.hostFree, uintptr(s.base))
}

// Write implements engine.Backend. When it returns, src may be changed; the
// device gets the data in the order of the stream.
func (b *Backend) Write(dst *engine.Tensor, src any) error {
	data, err := bytesOf(dst, src)
	if err != nil || len(data) == 0 {
		return err
	}
	if b.dry {
		return fmt.Errorf("cuda: write to a dry backend: %w", ErrUnavailable)
	}
	defer b.enter()()
	s, d, to := b.staging, b.driver, at(dst)
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(data) > 0 {
		h := s.turn()
		if err := d.check("wait for a transfer", syscall(d.eventSync, h.event)); err != nil {
			return err
		}
		n := copy(h.data, data)
		status := syscall(d.toDevice, uintptr(to), uintptr(unsafe.Pointer(&h.data[0])), uintptr(n), b.stream)
		if status == 0 {
			status = syscall(d.eventRecord, h.event, b.stream)
		}
		if err := d.check("copy to the device", status); err != nil {
			return err
		}
		data, to = data[n:], to+address(n)
	}
	return nil
}

// turn is the half to use next.
func (s *staging) turn() *half {
	s.next = 1 - s.next
	return &s.halfs[s.next]
}

// Read implements engine.Backend. It waits for all that was started before, and
// reports what kernels found wrong with their data.
func (b *Backend) Read(dst any, src *engine.Tensor) error {
	data, err := bytesOf(src, dst)
	if err != nil || len(data) == 0 {
		return err
	}
	if b.dry {
		return fmt.Errorf("cuda: read from a dry backend: %w", ErrUnavailable)
	}
	defer b.enter()()
	s, d, from := b.staging, b.driver, at(src)
	s.mu.Lock()
	defer s.mu.Unlock()
	var arriving *half
	var into []byte
	for arriving != nil || len(data) > 0 {
		var h *half
		n := min(len(data), stagingBytes/2)
		if n > 0 {
			h = s.turn()
			status := syscall(d.toHost, uintptr(unsafe.Pointer(&h.data[0])), uintptr(from), uintptr(n), b.stream)
			if status == 0 {
				status = syscall(d.eventRecord, h.event, b.stream)
			}
			if err := d.check("copy from the device", status); err != nil {
				return err
			}
		}
		if arriving != nil {
			if err := d.check("wait for the device", syscall(d.eventSync, arriving.event)); err != nil {
				return err
			}
			copy(into, arriving.data)
		}
		arriving, into = h, data[:n]
		data, from = data[n:], from+address(n)
	}
	return b.faults.take()
}

// bytesOf is host data as bytes, if it fits the tensor.
func bytesOf(t *engine.Tensor, host any) ([]byte, error) {
	var p unsafe.Pointer
	n, fits := 0, false
	switch h := host.(type) {
	case []float32:
		p, n, fits = unsafe.Pointer(unsafe.SliceData(h)), len(h), t.DType == engine.Float32
	case []int32:
		p, n, fits = unsafe.Pointer(unsafe.SliceData(h)), len(h), t.DType == engine.Int32
	case []uint16:
		p, n, fits = unsafe.Pointer(unsafe.SliceData(h)), len(h), t.DType == engine.BFloat16
	}
	if !fits || n != t.Size() {
		return nil, fmt.Errorf("cuda: copy between %v and %T of length %d", t, host, n)
	}
	return unsafe.Slice((*byte)(p), t.Bytes()), nil
}
