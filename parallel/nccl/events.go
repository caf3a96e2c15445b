package nccl

import (
	"sync"
	"time"

	"jambalaya/internal/backend/cuda"
	"jambalaya/parallel"
)

// events are the points at which a group's queue and the device's plans wait for each
// other, and the times of what is on the queue. They are used again once all is done.
type events struct {
	queue *cuda.Queue
	now   *cuda.Event // of a mark that nobody keeps, and of Lead

	mu    sync.Mutex // marks are made beside operations
	marks pool

	times pool          // beginning and end of each operation
	took  time.Duration // by those before
}

// pool is events of a kind, of which the first used are taken.
type pool struct {
	all  []*cuda.Event
	used int
}

func (p *pool) next(q *cuda.Queue, timed bool) (*cuda.Event, error) {
	if p.used == len(p.all) {
		e, err := q.NewEvent(timed)
		if err != nil {
			return nil, err
		}
		p.all = append(p.all, e)
	}
	p.used++
	return p.all[p.used-1], nil
}

// mark makes a mark.
func (v *events) mark() (parallel.Mark, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e, err := v.marks.next(v.queue, false)
	if err != nil {
		return 0, err
	}
	return parallel.Mark(v.marks.used), v.queue.Mark(e)
}

// follow makes what is put on the queue wait for a mark.
func (v *events) follow(m parallel.Mark) error {
	if m == 0 {
		e, err := v.passing()
		if err == nil {
			err = v.queue.Mark(e)
		}
		if err != nil {
			return err
		}
		return v.queue.Follow(e)
	}
	v.mu.Lock()
	e := v.marks.all[m-1]
	v.mu.Unlock()
	return v.queue.Follow(e)
}

// lead makes plans wait for what is on the queue.
func (v *events) lead() error {
	e, err := v.passing()
	if err == nil {
		err = v.queue.Record(e)
	}
	if err != nil {
		return err
	}
	return v.queue.Lead(e)
}

// passing is an event for one wait: who waits for it has taken note of its place.
func (v *events) passing() (*cuda.Event, error) {
	if v.now == nil {
		e, err := v.queue.NewEvent(false)
		if err != nil {
			return nil, err
		}
		v.now = e
	}
	return v.now, nil
}

// begin notes where an operation begins, and returns the event to record at its end.
func (v *events) begin() (end *cuda.Event, err error) {
	start, err := v.times.next(v.queue, true)
	if err == nil {
		err = v.queue.Record(start)
	}
	if err != nil {
		return nil, err
	}
	return v.times.next(v.queue, true)
}

// tally adds up the times of the operations so far, which are done, and takes their
// events back.
func (v *events) tally() error {
	for i := 0; i < v.times.used; i += 2 {
		d, err := v.queue.Between(v.times.all[i], v.times.all[i+1])
		if err != nil {
			return err
		}
		v.took += d
	}
	v.times.used = 0
	v.mu.Lock()
	v.marks.used = 0
	v.mu.Unlock()
	return nil
}

func (v *events) close() {
	for _, p := range []*pool{&v.marks, &v.times, {all: []*cuda.Event{v.now}}} {
		for _, e := range p.all {
			if e != nil {
				v.queue.CloseEvent(e)
			}
		}
	}
}
