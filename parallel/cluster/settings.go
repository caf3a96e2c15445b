package cluster

import (
	"time"
)

// Settings are the times and numbers of the protocol. Start from Defaults.
type Settings struct {
	Run string // identity of the run
	// Meshes lists the worlds that may train, the wanted one first, then what may
	// do when workers are missing, the larger ones first.
	Meshes []Mesh

	JoinWindow time.Duration // to wait for all workers before fewer have to do
	AckTimeout time.Duration // T: for a worker to leave a generation and acknowledge the next
	// BarrierTimeout is for loading a checkpoint and meeting, during which a worker
	// must go on sending reports.
	BarrierTimeout time.Duration
	Heartbeat      time.Duration // between two reports, or two beats
	Lease          time.Duration // without one, after which a worker is lost
	// Settle is how long a new generation waits after a worker complained about
	// another, for that one to be found dead.
	Settle time.Duration
	// Yield is how long a coordinator that less than half of the workers reach keeps the
	// lease, if the others are enough to train: it may be cut off from them. Abstain is
	// how long it then leaves the lease to them.
	Yield   time.Duration
	Abstain time.Duration

	Restarts    int           // generations that may fail without a step of progress
	BackoffBase time.Duration // before the second try without progress; doubles
	BackoffMax  time.Duration

	Hang time.Duration // without a step of any member, to say who waits for whom; 0: never

	StragglerWarn  float64 // times the median step
	StragglerEvict float64 // times the median step, if there is a spare worker
}

// Defaults are the settings of a run with one wanted mesh.
func Defaults(run string, wanted Mesh) Settings {
	return Settings{
		Run: run, Meshes: []Mesh{wanted},
		JoinWindow: time.Minute, AckTimeout: 5 * time.Second, BarrierTimeout: 5 * time.Minute,
		Heartbeat: 250 * time.Millisecond, Lease: 2 * time.Second, Settle: 300 * time.Millisecond, Yield: 5 * time.Second, Abstain: 5 * time.Second,
		Restarts: 10, BackoffBase: time.Second, BackoffMax: 30 * time.Second,
		StragglerWarn: 2, StragglerEvict: 5,
	}
}

// wanted is how many workers the run wants.
func (s *Settings) wanted() int { return s.Meshes[0].Size() }

// least is the smallest number of workers that can train.
func (s *Settings) least() int { return s.Meshes[len(s.Meshes)-1].Size() }

// fit returns the largest mesh for n workers.
func (s *Settings) fit(n int) (Mesh, bool) {
	for _, m := range s.Meshes {
		if m.Size() <= n {
			return m, true
		}
	}
	return Mesh{}, false
}

// backoff is the wait after a number of failures in a row without progress. The
// first costs none: most failures are of one worker, once.
func (s *Settings) backoff(failures int) time.Duration {
	if failures < 2 {
		return 0
	}
	d := s.BackoffBase
	for range failures - 2 {
		if d *= 2; d >= s.BackoffMax {
			return s.BackoffMax
		}
	}
	return d
}
