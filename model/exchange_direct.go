package model

import "jambalaya/internal/engine"

// place tells layers apart.
type place struct {
	mem engine.Memory
	off int64
}

// counts are the numbers of rows in a layer's last forward pass, [ranks,E]. The backward
// pass moves the same rows.
type counts struct {
	all   []int32
	known bool
}

// bindDirect prepares a layer whose rows move from device to device.
func (l *expertLayer) bindDirect() (err error) {
	at := place{l.gateUp.Mem, l.gateUp.Off}
	if l.last[at] == nil {
		l.last[at] = &counts{all: make([]int32, l.ranks.Size()*l.experts)}
	}
	l.known = l.last[at]
	l.everyone, err = l.buffer("everyone's offsets", engine.Int32, l.ranks.Size(), l.experts+1)
	return err
}

// runDirect is run where rows move from device to device: the host only learns how many
// there are.
func (l *expertLayer) runDirect() error {
	if l.dxs == nil || !l.known.known {
		if err := l.learn(); err != nil {
			return err
		}
	}
	for round := range l.routes.plan(l.known.all) {
		if err := l.roundDirect(round); err != nil {
			return err
		}
	}
	return l.direct.Settle() // nobody could end the wait of a device for a rank that is gone
}

// learn gets the numbers of rows of all ranks.
func (l *expertLayer) learn() error {
	var send, recv []Moved
	for rank := range l.ranks.Size() {
		send = append(send, Moved{rank, l.offsets})
		recv = append(recv, Moved{rank, sub(l.everyone, rank*(l.experts+1), l.experts+1)})
	}
	if err := l.direct.Move(send, recv); err != nil {
		return err
	}
	if err := l.direct.Settle(); err != nil {
		return err
	}
	offsets := make([]int32, l.everyone.Size())
	if err := l.backend.Read(offsets, l.everyone); err != nil {
		return err
	}
	for rank := range l.ranks.Size() {
		firsts := offsets[rank*(l.experts+1):]
		for e := range l.experts {
			l.known.all[rank*l.experts+e] = firsts[e+1] - firsts[e]
		}
	}
	l.known.known = true
	return nil
}

// roundDirect computes one window of what each rank has to compute.
func (l *expertLayer) roundDirect(n int) error {
	received := l.routes.window(n)
	var send, recv []Moved
	for _, t := range l.given {
		here, there := l.moved(t)
		send, recv = append(send, here...), append(recv, there...)
	}
	if err := l.direct.Move(send, recv); err != nil {
		return err
	}
	if err := l.compute(n, received); err != nil {
		return err
	}
	here, there := l.moved(l.result)
	return l.direct.Move(there, here)
}

// moved are the rows of a round, here and there: those of an expert and two ranks are
// together in both places.
func (l *expertLayer) moved(t transfer) (here, there []Moved) {
	rows := func(of *engine.Tensor, first, n int) *engine.Tensor { return sub(of, first*l.width, n, l.width) }
	for _, p := range l.routes.leaving {
		here = append(here, Moved{p.to, rows(t.here, p.here, p.rows)})
	}
	for _, p := range l.routes.pieces {
		there = append(there, Moved{p.from, rows(t.there, p.there, p.rows)})
	}
	return here, there
}
