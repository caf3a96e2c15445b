package nccl

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
	"unsafe"

	"jambalaya/internal/backend/cuda"
	"jambalaya/parallel"
)

// Member is a rank of a generation with its GPU, and all its communicators.
//
// They end together: to give one back waits for the device, and so for the operations of
// the others, which wait for a rank that is gone, and nobody can tell them meanwhile. See
// https://github.com/NVIDIA/nccl/issues/549.
type Member struct {
	lib       *functions
	backend   *cuda.Backend
	transport parallel.Transport
	options   parallel.GroupOptions

	mu     sync.RWMutex // held to use communicators; wholly to end them
	groups []*Group
	lost   context.Context // done when the generation is over
	leave  context.CancelCauseFunc
}

// NewMember prepares a rank for groups. Options are as for parallel.NewGroup; the size of
// chunks is NCCL's own affair. The error wraps cuda.ErrUnavailable where there is no NCCL.
func NewMember(b *cuda.Backend, t parallel.Transport, options parallel.GroupOptions) (*Member, error) {
	lib, err := load()
	if err != nil {
		return nil, err
	}
	if options.Timeout == 0 {
		options.Timeout = 5 * time.Minute
	}
	m := &Member{lib: lib, backend: b, transport: t, options: options}
	m.lost, m.leave = context.WithCancelCause(context.Background())
	return m, nil
}

func (m *Member) add(g *Group) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.groups = append(m.groups, g)
}

// remove forgets a group; with the last one nobody asks any more who is lost.
func (m *Member) remove(g *Group) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.groups = slices.DeleteFunc(m.groups, func(o *Group) bool { return o == g })
	if len(m.groups) == 0 {
		m.leave(parallel.ErrClosed)
	}
}

// abort ends all communicators of the rank, and with them their operations on the device.
func (m *Member) abort() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.ContainsFunc(m.groups, func(g *Group) bool { return g.comm != 0 }) {
		return
	}
	_, leave := m.groups[0].queue.Enter()
	defer leave()
	cuda.Call(m.lib.groupStart)
	for _, g := range m.groups {
		if g.comm != 0 {
			cuda.Call(m.lib.abort, g.comm)
			g.comm = 0
		}
	}
	cuda.Call(m.lib.groupEnd)
}

// call calls a function of NCCL with the communicator as the first argument.
//
//go:uintptrescapes
func (g *Group) call(what string, fn uintptr, args ...uintptr) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.comm == 0 {
		return g.gone()
	}
	return g.lib.check(what, cuda.Call(fn, append([]uintptr{g.comm}, args...)...))
}

// gone is the error of an operation whose communicator has been ended.
func (g *Group) gone() error {
	if cause := context.Cause(g.lost); cause != nil {
		return fmt.Errorf("%w: %w", parallel.ErrAborted, cause)
	}
	return parallel.ErrAborted
}

// together makes one operation of several calls, which get the communicator.
func (g *Group) together(calls func(comm uintptr) error) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.comm == 0 {
		return g.gone()
	}
	if err := g.lib.check("start a group of calls", cuda.Call(g.lib.groupStart)); err != nil {
		return err
	}
	err := calls(g.comm)
	if end := g.lib.check("end a group of calls", cuda.Call(g.lib.groupEnd)); err == nil {
		err = end
	}
	return err
}

// make begins to make the communicator.
func (g *Group) make(id *uniqueID) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lost.Err() != nil {
		return g.gone()
	}
	return g.lib.check("make a communicator", cuda.Call(g.lib.initRank, uintptr(unsafe.Pointer(&g.comm)), uintptr(g.Size()), uintptr(g.rank), 1,
		uintptr(unsafe.Pointer(id)), uintptr(unsafe.Pointer(nonBlocking()))))
}

// destroy gives the communicator back, on which nothing goes on any more.
func (g *Group) destroy() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.comm == 0 {
		return g.gone()
	}
	comm := g.comm
	g.comm = 0
	return g.lib.check("give the communicator back", cuda.Call(g.lib.destroy, comm))
}
