package cuda

import (
	"fmt"
	"unsafe"

	"jambalaya/internal/engine"
)

// Library is a shared library of NVIDIA's that another package drives on a
// backend's device.
type Library struct{ library }

// Load loads the first of the names that can be found and looks functions up in it.
// The error wraps ErrUnavailable and ends with advice.
func Load(advice string, functions map[string]*uintptr, names ...string) (*Library, error) {
	lib, err := openLibrary(advice, names...)
	if err != nil {
		return nil, err
	}
	return &Library{lib}, lib.bind(functions)
}

// Call calls a function of a library and returns its status. What pointers among
// the arguments point to stays where it is until the function returns.
//
//go:uintptrescapes
func Call(fn uintptr, args ...uintptr) int32 { return syscall(fn, args...) }

// Queue is a stream beside the one that plans run on: what is put there runs at the
// same time as a plan, from the point on that Follow fixes.
type Queue struct {
	backend *Backend
	stream  uintptr
	event   uintptr
	wait    uintptr // cuStreamWaitEvent
	query   uintptr // cuStreamQuery
}

// NewQueue makes a queue. Close it before the backend.
func (b *Backend) NewQueue() (*Queue, error) {
	q := &Queue{backend: b}
	if err := b.driver.bind(map[string]*uintptr{"cuStreamWaitEvent": &q.wait, "cuStreamQuery": &q.query}); err != nil {
		return nil, err
	}
	defer b.enter()()
	const nonBlocking, noTiming = 1, 2
	status := syscall(b.driver.streamCreate, uintptr(unsafe.Pointer(&q.stream)), nonBlocking)
	if status == 0 {
		status = syscall(b.driver.eventCreate, uintptr(unsafe.Pointer(&q.event)), noTiming)
	}
	return q, b.driver.check("make a queue", status)
}

// Close waits for the queue's work and gives it back.
func (q *Queue) Close() {
	defer q.backend.enter()()
	d := q.backend.driver
	syscall(d.streamSync, q.stream)
	syscall(d.eventDestroy, q.event)
	syscall(d.streamDestroy, q.stream)
}

// Enter makes the device current on the calling thread until the returned function
// is called, and returns the stream, for calls to a Library.
func (q *Queue) Enter() (stream uintptr, leave func()) { return q.stream, q.backend.enter() }

// Follow makes what is put on the queue from now on wait for all that plans and
// transfers have started so far.
func (q *Queue) Follow() error {
	defer q.backend.enter()()
	status := syscall(q.backend.driver.eventRecord, q.event, q.backend.stream)
	if status == 0 {
		status = syscall(q.wait, q.stream, q.event, 0)
	}
	return q.backend.driver.check("order two streams", status)
}

// Done says, without waiting, whether all that is on the queue has ended.
func (q *Queue) Done() (bool, error) {
	defer q.backend.enter()()
	const notReady = 600
	status := syscall(q.query, q.stream)
	if status == notReady {
		return false, nil
	}
	return status == 0, q.backend.driver.check("ask for the state of a stream", status)
}

// Address is where a tensor of this backend lies in the device's memory.
func (b *Backend) Address(t *engine.Tensor) (uintptr, error) {
	if _, ours := t.Mem.(*memory); !ours {
		return 0, fmt.Errorf("cuda: %v is not in the memory of %s", t, b.Name())
	}
	return uintptr(at(t)), nil
}
