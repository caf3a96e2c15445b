package model

import (
	"fmt"

	"jambalaya/internal/engine"
	"jambalaya/internal/safetensors"
)

// hostRows are the rows of a tensor on the host: in its own memory where that is the
// host's, else in a copy.
type hostRows struct {
	backend engine.Backend
	tensor  *engine.Tensor // [rows, width]
	floats  []float32      // the rows, or
	halves  []uint16       // in bf16
	bytes   []byte         // the same memory
	copied  bool
}

// host returns the host's hold on a tensor. Copies for the same use share memory.
func (e *Exchange) host(use string, t *engine.Tensor) *hostRows {
	h := &hostRows{backend: e.backend, tensor: t}
	if mem, ok := e.backend.(engine.HostMemory); ok {
		h.floats = mem.Floats(t)
		h.bytes = safetensors.Bytes(h.floats)
		return h
	}
	key := fmt.Sprint(use, t.DType, t.Shape)
	if e.staging[key] == nil {
		s := &hostRows{}
		if t.DType == engine.BFloat16 {
			s.halves = make([]uint16, t.Size())
			s.bytes = safetensors.Bytes(s.halves)
		} else {
			s.floats = make([]float32, t.Size())
			s.bytes = safetensors.Bytes(s.floats)
		}
		e.staging[key] = s
	}
	s := e.staging[key]
	h.floats, h.halves, h.bytes, h.copied = s.floats, s.halves, s.bytes, true
	return h
}

// fetch brings the first n rows to the host, store back to the device.
func (h *hostRows) fetch(n int) error {
	if !h.copied || n == 0 {
		return nil
	}
	host, part := h.part(n)
	return h.backend.Read(host, part)
}

func (h *hostRows) store(n int) error {
	if !h.copied || n == 0 {
		return nil
	}
	host, part := h.part(n)
	return h.backend.Write(part, host)
}

func (h *hostRows) part(n int) (any, *engine.Tensor) {
	width := h.tensor.Dim(1)
	part := sub(h.tensor, 0, n, width)
	if h.halves != nil {
		return h.halves[:n*width], part
	}
	return h.floats[:n*width], part
}

// staged returns host memory for a use.
func (e *Exchange) staged(use string, bytes int) []byte {
	h := e.staging[use]
	if h == nil || len(h.bytes) < bytes {
		h = &hostRows{bytes: make([]byte, bytes)}
		e.staging[use] = h
	}
	return h.bytes[:bytes]
}

// run passes the rows of all ranks through their experts, in rounds.
func (l *expertLayer) run() error {
	if err := l.backend.Read(l.firsts, l.offsets); err != nil {
		return err
	}
	if err := l.count(); err != nil {
		return err
	}
	if err := l.ranks.Counts(l.counts, l.all); err != nil {
		return err
	}
	rounds := l.routes.plan(l.all)
	for _, t := range l.given {
		if err := t.hereHost.fetch(l.rows); err != nil {
			return err
		}
	}
	for round := range rounds {
		if err := l.round(round); err != nil {
			return err
		}
	}
	l.clearDropped(l.result.hereHost.bytes)
	return l.result.hereHost.store(l.rows)
}

// round computes one window of what each rank has to compute.
func (l *expertLayer) round(n int) error {
	received := l.routes.window(n)
	for _, t := range l.given {
		if err := l.send(t, received); err != nil {
			return err
		}
	}
	if err := l.compute(n, received); err != nil {
		return err
	}
	return l.giveBack(received)
}

// compute passes the rows that were received in a round through their experts.
func (l *expertLayer) compute(round, received int) error {
	for e, at := range l.routes.offsets {
		l.localHost[e] = int32(at)
	}
	if err := l.backend.Write(l.local, l.localHost); err != nil {
		return err
	}
	plan := l.first
	if round > 0 {
		plan = l.more
	}
	if l.senders != nil {
		return l.addPart(round)
	}
	if round == 0 || received > 0 { // the first one clears the gradients
		return plan.Run()
	}
	return nil
}

// send brings rows to the ranks that hold their experts, and puts those received in the
// order of the experts.
func (l *expertLayer) send(t transfer, received int) error {
	r, size := l.routes, len(t.hereHost.bytes)/l.rows
	mine := l.staged("mine", l.rows*size)
	theirs := l.staged("theirs", l.room*size)[:received*size]
	at := 0
	for to := range r.ranks {
		l.eachRun(r.sendFrom[to], r.sends[to], func(row, n int) {
			at += copy(mine[at:], t.hereHost.bytes[row*size:(row+n)*size])
		})
	}
	if err := l.ranks.AllToAll(mine[:at], r.inBytes(r.sends, size), theirs, r.inBytes(r.receives, size)); err != nil {
		return err
	}
	for _, p := range r.pieces {
		copy(t.thereHost.bytes[p.there*size:(p.there+p.rows)*size], theirs[p.arrived*size:])
	}
	return t.thereHost.store(received)
}

// giveBack returns the results of a round to the ranks whose rows they are.
func (l *expertLayer) giveBack(received int) error {
	t, r := l.result, l.routes
	size := len(t.hereHost.bytes) / l.rows
	if err := t.thereHost.fetch(received); err != nil {
		return err
	}
	mine := l.staged("mine", l.rows*size)
	theirs := l.staged("theirs", l.room*size)[:received*size]
	for _, p := range r.pieces {
		copy(theirs[p.arrived*size:(p.arrived+p.rows)*size], t.thereHost.bytes[p.there*size:])
	}
	total := 0
	for _, n := range r.sends {
		total += n
	}
	if err := l.ranks.AllToAll(theirs, r.inBytes(r.receives, size), mine[:total*size], r.inBytes(r.sends, size)); err != nil {
		return err
	}
	at := 0
	for to := range r.ranks {
		l.eachRun(r.sendFrom[to], r.sends[to], func(row, n int) {
			at += copy(t.hereHost.bytes[row*size:(row+n)*size], mine[at:])
		})
	}
	return nil
}
