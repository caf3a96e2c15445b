package engine

import "time"

// Profile makes every run from now on add the time of each kernel call to the
// returned slice, which is indexed like Calls; the caller may clear it. A device
// that works behind the host's back is waited for after each call. A plan that
// is not profiled reads no clock.
func (p *Plan) Profile() []time.Duration {
	p.forget()
	spent := make([]time.Duration, len(p.steps))
	for i, step := range p.steps {
		p.steps[i] = func() error {
			start := time.Now()
			err := step()
			if err == nil {
				err = p.backend.Sync()
			}
			spent[i] += time.Since(start)
			return err
		}
	}
	return spent
}
