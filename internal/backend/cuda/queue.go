package cuda

import (
	"fmt"
	"time"
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
// same time as a plan, but for the points at which one waits for the other.
type Queue struct {
	backend *Backend
	stream  uintptr
	wait    uintptr // cuStreamWaitEvent
	query   uintptr // cuStreamQuery
	elapsed uintptr // cuEventElapsedTime
}

// Event is a point in the work of a queue, or of plans and transfers.
type Event struct{ handle uintptr }

// NewQueue makes a queue. Close it before the backend.
func (b *Backend) NewQueue() (*Queue, error) {
	q := &Queue{backend: b}
	if err := b.driver.bind(map[string]*uintptr{"cuStreamWaitEvent": &q.wait, "cuStreamQuery": &q.query, "cuEventElapsedTime": &q.elapsed}); err != nil {
		return nil, err
	}
	defer b.enter()()
	const nonBlocking = 1
	status := syscall(b.driver.streamCreate, uintptr(unsafe.Pointer(&q.stream)), nonBlocking)
	return q, b.driver.check("make a queue", status)
}

// Close waits for the queue's work and gives it back.
func (q *Queue) Close() {
	defer q.backend.enter()()
	syscall(q.backend.driver.streamSync, q.stream)
	syscall(q.backend.driver.streamDestroy, q.stream)
}

// Enter makes the device current on the calling thread until the returned function
// is called, and returns the stream, for calls to a Library.
func (q *Queue) Enter() (stream uintptr, leave func()) { return q.stream, q.backend.enter() }

// NewEvent makes an event that has a time if timed is set. Close it before the
// backend.
func (q *Queue) NewEvent(timed bool) (*Event, error) {
	defer q.backend.enter()()
	const noTiming = 2
	flags := uintptr(noTiming)
	if timed {
		flags = 0
	}
	e := &Event{}
	return e, q.backend.driver.check("make an event", syscall(q.backend.driver.eventCreate, uintptr(unsafe.Pointer(&e.handle)), flags))
}

// CloseEvent gives an event back.
func (q *Queue) CloseEvent(e *Event) {
	defer q.backend.enter()()
	syscall(q.backend.driver.eventDestroy, e.handle)
}

// Mark makes the event the point that plans and transfers have been started up to.
func (q *Queue) Mark(e *Event) error {
	defer q.backend.enter()()
	return q.order(syscall(q.backend.driver.eventRecord, e.handle, q.backend.stream))
}

// Record makes the event the end of what is on the queue.
func (q *Queue) Record(e *Event) error {
	defer q.backend.enter()()
	return q.order(syscall(q.backend.driver.eventRecord, e.handle, q.stream))
}

// Follow makes what is put on the queue from now on wait for an event.
func (q *Queue) Follow(e *Event) error {
	defer q.backend.enter()()
	return q.order(syscall(q.wait, q.stream, e.handle, 0))
}

// Lead makes plans and transfers that are started from now on wait for an event.
func (q *Queue) Lead(e *Event) error {
	defer q.backend.enter()()
	return q.order(syscall(q.wait, q.backend.stream, e.handle, 0))
}

func (q *Queue) order(status int32) error {
	return q.backend.driver.check("order two streams", status)
}

// Between is the time from one event to a later one; both are timed, and the device
// is past them.
func (q *Queue) Between(from, to *Event) (time.Duration, error) {
	defer q.backend.enter()()
	var ms float32
	status := syscall(q.elapsed, uintptr(unsafe.Pointer(&ms)), from.handle, to.handle)
	return time.Duration(float64(ms) * float64(time.Millisecond)), q.backend.driver.check("ask for a time", status)
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
