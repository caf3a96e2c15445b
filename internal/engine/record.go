package engine

import "errors"

// Recorder is implemented by backends that start many kernels at the price of one: a
// device's graphs.
type Recorder interface {
	// Record calls run, which starts kernels, and notes them instead of running
	// them. It fails, with no harm done, where that is not possible.
	Record(run func() error) (Recording, error)
}

// Recording starts what was recorded, with the same memory and arguments.
type Recording interface {
	Start() error
	Close()
}

// recorder finds out whether a backend, or the one it wraps, records.
func recorder(be Backend) (Recorder, bool) {
	for {
		if r, ok := be.(Recorder); ok {
			return r, true
		}
		w, ok := be.(interface{ Unwrap() Backend })
		if !ok {
			return nil, false
		}
		be = w.Unwrap()
	}
}

// record makes the second and later runs of a plan one start, if nothing has to
// happen on the host between its instructions. The first run is a plain one: what
// loads on first use is loaded then.
func (p *Plan) record() {
	r, ok := recorder(p.backend)
	if !ok || p.watched {
		p.plain = true
		return
	}
	for i := range p.prog.Instrs {
		if p.prog.Instrs[i].Exchange || len(p.hooks[i]) > 0 {
			p.plain = true
			return
		}
	}
	recording, err := r.Record(func() error { return p.RunRange(0, len(p.steps)) })
	if err != nil {
		p.plain = true
		return
	}
	p.recording = recording
}

// Repeats records the instructions [from, to) `times` times in a row, for measurements:
// started one by one, short kernels take as long as the host needs to start them. The
// plan must have run once.
func (p *Plan) Repeats(from, to, times int) (Recording, error) {
	r, ok := recorder(p.backend)
	if !ok {
		return nil, errors.New("engine: the backend does not record")
	}
	return r.Record(func() error {
		for range times {
			if err := p.RunRange(from, to); err != nil {
				return err
			}
		}
		return nil
	})
}

// forget goes back to plain runs, for who wants to see each instruction.
func (p *Plan) forget() {
	p.watched = true
	if p.recording != nil {
		p.recording.Close()
		p.recording = nil
	}
}
