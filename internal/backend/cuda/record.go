package cuda

import (
	"unsafe"

	"jambalaya/internal/engine"
)

var _ engine.Recorder = (*Backend)(nil)

// recording is a graph of launches, ready to start.
type recording struct {
	b     *Backend
	graph uintptr // CUgraphExec
}

// Record implements engine.Recorder: the stream is captured while run starts kernels on it.
func (b *Backend) Record(run func() error) (engine.Recording, error) {
	if b.dry {
		return nil, ErrUnavailable
	}
	defer b.enter()()
	const threadLocal = 1
	d := b.driver
	if err := d.check("record a plan", syscall(d.captureBegin, b.stream, threadLocal)); err != nil {
		return nil, err
	}
	runErr := run()
	var graph uintptr
	err := d.check("record a plan", syscall(d.captureEnd, b.stream, uintptr(unsafe.Pointer(&graph))))
	if graph != 0 {
		defer func() { syscall(d.graphDestroy, graph) }()
	}
	if runErr != nil {
		return nil, runErr
	}
	if err != nil {
		return nil, err
	}
	r := &recording{b: b}
	if err := d.check("make a graph of a plan", syscall(d.graphMake, uintptr(unsafe.Pointer(&r.graph)), graph, 0)); err != nil {
		return nil, err
	}
	return r, nil
}

// Start implements engine.Recording.
func (r *recording) Start() error {
	defer r.b.enter()()
	return r.b.driver.check("start a plan", syscall(r.b.driver.graphLaunch, r.graph, r.b.stream))
}

// Close implements engine.Recording.
func (r *recording) Close() {
	if r.b.context == 0 { // closed before its plans, with all that it had
		return
	}
	defer r.b.enter()()
	syscall(r.b.driver.streamSync, r.b.stream)
	syscall(r.b.driver.graphExecDestroy, r.graph)
}
