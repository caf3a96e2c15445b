package cuda

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"jambalaya/internal/engine"
)

// Backend implements engine.Backend on one GPU.
type Backend struct {
	driver   *driver
	device   device
	context  uintptr
	stream   uintptr
	compiler *compiler
	blas     *blas
	cache    cache
	modules  map[string]*module
	staging  *staging
	faults   *faults
	dry      bool

	compiling  chan struct{} // as many compilations at a time as it holds
	mu         sync.Mutex
	builds     map[string]*build
	algorithms map[string]string // of matrix products, by shape
	memory     map[*memory]struct{}
}

var _ engine.Backend = (*Backend)(nil)

// New opens a device by its ordinal. The error wraps ErrUnavailable where this
// machine has no such device, or lacks a library.
func New(ordinal int) (*Backend, error) {
	d, err := openDriver()
	if err != nil {
		return nil, err
	}
	dev, err := d.device(ordinal)
	if err != nil {
		return nil, err
	}
	b := &Backend{driver: d, device: dev, cache: userCache(), modules: map[string]*module{}, builds: map[string]*build{},
		compiling: make(chan struct{}, runtime.GOMAXPROCS(0)), algorithms: map[string]string{}, memory: map[*memory]struct{}{}}
	if b.compiler, err = openCompiler(dev.arch()); err != nil {
		return nil, err
	}
	if err := b.open(); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// open makes what lives on the device.
func (b *Backend) open() (err error) {
	d := b.driver
	if err := d.check("open "+b.device.name, syscall(d.retain, uintptr(unsafe.Pointer(&b.context)), uintptr(b.device.ordinal))); err != nil {
		return err
	}
	defer b.enter()()
	const nonBlocking = 1
	if err := d.check("make a stream", syscall(d.streamCreate, uintptr(unsafe.Pointer(&b.stream)), nonBlocking)); err != nil {
		return err
	}
	if b.blas, err = openBlas(); err != nil {
		return err
	}
	if b.staging, err = newStaging(b); err != nil {
		return err
	}
	b.faults, err = newFaults(b)
	return err
}

// enter makes the device's context current on this thread until the returned
// function is called. The driver keeps it by thread, Go moves goroutines.
func (b *Backend) enter() func() {
	runtime.LockOSThread()
	syscall(b.driver.setCurrent, b.context)
	return runtime.UnlockOSThread
}

// Close gives back all memory, including that of plans that are still open.
func (b *Backend) Close() {
	if b.dry || b.context == 0 {
		return
	}
	defer b.enter()()
	d := b.driver
	syscall(d.streamSync, b.stream)
	for m := range b.memory {
		syscall(d.memFree, uintptr(m.base))
	}
	for _, w := range b.builds {
		<-w.done
	}
	for _, m := range b.modules {
		syscall(d.moduleUnload, m.handle)
	}
	b.blas.close()
	b.staging.close(d)
	b.faults.close(d)
	syscall(d.streamDestroy, b.stream)
	syscall(d.release, uintptr(b.device.ordinal))
	b.context = 0
}

// Name implements engine.Backend.
func (b *Backend) Name() string { return "cuda" }

// Path names all that decides how results are rounded: device, compiler and
// library. Checkpoints record it, as another one may give other bits.
func (b *Backend) Path() string {
	if b.dry {
		return "cuda/dry"
	}
	return fmt.Sprintf("cuda/%s/%s/nvrtc-%s/cublaslt-%s", b.device.name, b.compiler.arch, b.compiler.version(), b.blas.version())
}

// memory is a block of device memory.
type memory struct {
	base  address
	bytes int64
}

// address is a place in device memory.
type address uint64

// Bytes implements engine.Memory.
func (m *memory) Bytes() int64 { return m.bytes }

// Alloc implements engine.Backend.
func (b *Backend) Alloc(bytes int64) (engine.Memory, error) {
	m := &memory{bytes: bytes}
	if b.dry || bytes == 0 {
		return m, nil
	}
	defer b.enter()()
	d := b.driver
	if status := syscall(d.memAlloc, uintptr(unsafe.Pointer(&m.base)), uintptr(bytes)); status != 0 {
		var free, total uint64
		syscall(d.memInfo, uintptr(unsafe.Pointer(&free)), uintptr(unsafe.Pointer(&total)))
		return nil, d.check(fmt.Sprintf("allocate %d MiB, of which %s has %d MiB free", bytes>>20, b.device.name, free>>20), status)
	}
	if err := d.check("clear memory", syscall(d.memset, uintptr(m.base), 0, uintptr(bytes), b.stream)); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.memory[m] = struct{}{}
	return m, nil
}

// Room is how many bytes all memory of this backend may come to: what it has and what
// is free on the device.
func (b *Backend) Room() int64 {
	if b.dry {
		return 0
	}
	defer b.enter()()
	var free, total uint64
	syscall(b.driver.memInfo, uintptr(unsafe.Pointer(&free)), uintptr(unsafe.Pointer(&total)))
	return int64(free) + b.Held()
}

// Held is how many bytes this backend has.
func (b *Backend) Held() (bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for m := range b.memory {
		bytes += m.bytes
	}
	return bytes
}

// Used is how many bytes of the device are taken, by whomever: with the driver's own,
// what a monitor shows.
func (b *Backend) Used() int64 {
	if b.dry {
		return 0
	}
	defer b.enter()()
	var free, total uint64
	syscall(b.driver.memInfo, uintptr(unsafe.Pointer(&free)), uintptr(unsafe.Pointer(&total)))
	return int64(total - free)
}

// Free implements engine.Backend.
func (b *Backend) Free(mem engine.Memory) {
	m := mem.(*memory)
	b.mu.Lock()
	_, ours := b.memory[m]
	delete(b.memory, m)
	b.mu.Unlock()
	if ours {
		defer b.enter()()
		syscall(b.driver.memFree, uintptr(m.base)) // waits for the device
	}
}

// Sync implements engine.Backend. It also reports what kernels found wrong with
// their data since the last time.
func (b *Backend) Sync() error {
	if b.dry {
		return nil
	}
	defer b.enter()()
	if err := b.driver.check("wait for "+b.device.name, syscall(b.driver.streamSync, b.stream)); err != nil {
		return err
	}
	return b.faults.take()
}

// at is where a tensor lives, 0 for nil.
func at(t *engine.Tensor) address {
	if t == nil || t.Mem == nil {
		return 0
	}
	m := t.Mem.(*memory)
	if t.Off < 0 || t.Off+t.Bytes() > m.bytes {
		panic(fmt.Sprintf("cuda: tensor of %d bytes at %d outside memory of %d", t.Bytes(), t.Off, m.bytes))
	}
	return m.base + address(t.Off)
}
