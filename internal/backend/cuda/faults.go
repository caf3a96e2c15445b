package cuda

import (
	"fmt"
	"sync/atomic"
	"unsafe"
)

// faults is a word of host memory in which kernels note the first data they
// cannot take (see report in common.cuh). They go on with a value that is in
// range, so that nothing outside the tensors is read; the host finds the note
// when it next waits for the device.
type faults struct {
	word *uint64
	at   address // the same word as the device sees it
}

func newFaults(b *Backend) (*faults, error) {
	f := &faults{}
	const mapped = 2
	d := b.driver
	if err := d.check("page-locked memory", syscall(d.hostAlloc, uintptr(unsafe.Pointer(&f.word)), 8, mapped)); err != nil {
		return nil, err
	}
	*f.word = 0
	f.at = address(uintptr(unsafe.Pointer(f.word))) // one address space
	return f, nil
}

func (f *faults) close(d *driver) {
	if f != nil {
		syscall(d.hostFree, uintptr(unsafe.Pointer(f.word)))
	}
}

// faultTexts by the code in common.cuh.
var faultTexts = [...]string{1: "embedding: token %d at position %d is not in the vocabulary",
	2: "cross_entropy: target %d at position %d is not in the vocabulary",
	3: "expert_sort: expert %d of assignment %d does not exist",
	4: "attention_cached: position %d, with the %d tokens from there on, is outside the cache; generate fewer tokens or enlarge the cache"}

// take returns the note and forgets it.
func (f *faults) take() error {
	word := atomic.SwapUint64(f.word, 0)
	if word == 0 {
		return nil
	}
	code, position, value := word>>60, word>>32&(1<<28-1), int32(word)
	if code >= uint64(len(faultTexts)) {
		return fmt.Errorf("cuda: fault %#x: %w", word, ErrData)
	}
	return fmt.Errorf("cuda: "+faultTexts[code]+": %w", value, position, ErrData)
}
