package cluster

import "time"

// Event is something that happened, for a Coordinator or a Worker to act on.
type Event interface{ event() }

// Action is something that a Coordinator or a Worker wants done.
type Action interface{ action() }

// Events of both machines.
type (
	// Tick says that time has passed, and nothing else may have happened.
	Tick struct{}
	// Received is a message of a peer. From is the incarnation at the other end of a
	// coordinator's stream; a worker's has one end only.
	Received struct {
		From    string
		Message *Message
	}
	// Lost says that the stream with a peer has ended, for a reason.
	Lost struct {
		Who    string // incarnation; "" for a worker: the coordinator
		Reason string
	}
)

// Events of a coordinator.
type (
	// Persisted says that a generation is durably in the log.
	Persisted struct{ Generation uint64 }
	// Rejected says that the log has other generations; none up to Spent may be used.
	Rejected struct{ Spent uint64 }
	// Suspected is advice by gossip: a worker may be dead.
	Suspected struct{ Who string }
)

// Actions of a coordinator.
type (
	// Persist appends a generation to the log; Persisted or Rejected answers.
	Persist struct{ Plan *Generation }
	// Send sends a message; To is an incarnation, "" for a worker's coordinator.
	Send struct {
		To      string
		Message *Message
	}
	// Yield gives the lease up, for Reason; the coordinator is of no more use.
	Yield struct{ Reason string }
	// Hangup closes the stream with an incarnation after what was sent.
	Hangup struct{ Who string }
	// Say is a line for the user.
	Say struct {
		Warning bool
		Text    string
	}
	// End ends the machine; nothing follows. A process exits with Code.
	End struct {
		Code   int
		Reason string
	}
)

// Events of a worker.
type (
	// Found says that a coordinator has a term and can be reached.
	Found struct {
		Term    uint64
		Address string
	}
	// Connected says that the stream that Connect asked for is open.
	Connected struct{ Term uint64 }
	// Trained says that Train has returned.
	Trained struct {
		Generation uint64
		Outcome    Outcome
		Code       int // of a failure
		Field      string
		Reason     string
	}
	// Loaded says that training has loaded its state and waits for the others.
	Loaded struct {
		Generation uint64
		Step       int64
		Hash       string
	}
	// Progress is a report, to be sent.
	Progress struct{ Report Report }
	// Stop asks the worker to save and leave.
	Stop struct{}
)

// Outcome is how training ended.
type Outcome string

// The outcomes.
const (
	OutcomeDone    Outcome = "done"    // the run is complete
	OutcomeStopped Outcome = "stopped" // asked to, with a checkpoint saved
	OutcomeAborted Outcome = "aborted" // a rank was lost, or the generation replaced
	OutcomeFailed  Outcome = "failed"  // would fail again
)

// Actions of a worker.
type (
	// Seek looks for a coordinator; Found answers, more than once if terms change.
	Seek struct{}
	// Connect opens a stream to a coordinator; Connected or Lost answers.
	Connect struct {
		Term    uint64
		Address string
	}
	// Join sends Hello with this incarnation and the checkpoints there are.
	Join struct {
		Term        uint64
		Incarnation string
	}
	// Acknowledge sends Ack with the checkpoints there are.
	Acknowledge struct{ Generation uint64 }
	// Train starts training as a rank; Loaded and Trained follow.
	Train struct {
		Plan   *Generation
		Rank   int
		Resume int64 // step to load, -1: none
	}
	// Release lets training go on after Loaded.
	Release struct{ Generation uint64 }
	// Abort ends training, by its transport; Trained follows.
	Abort struct {
		Generation uint64
		Reason     string
	}
	// Finish asks training to save and stop; Trained follows.
	Finish struct{}
)

func (Tick) event()      {}
func (Received) event()  {}
func (Lost) event()      {}
func (Persisted) event() {}
func (Rejected) event()  {}
func (Suspected) event() {}
func (Found) event()     {}
func (Connected) event() {}
func (Trained) event()   {}
func (Loaded) event()    {}
func (Progress) event()  {}
func (Stop) event()      {}

func (Persist) action()     {}
func (Send) action()        {}
func (Yield) action()       {}
func (Hangup) action()      {}
func (Say) action()         {}
func (End) action()         {}
func (Seek) action()        {}
func (Connect) action()     {}
func (Join) action()        {}
func (Acknowledge) action() {}
func (Train) action()       {}
func (Release) action()     {}
func (Abort) action()       {}
func (Finish) action()      {}

// Exit codes, as those of the commands.
const (
	codeOK      = 0
	codeFailure = 1
	codeRetry   = 75
	codeConfig  = 78
)

// forever is later than any deadline.
const forever = time.Duration(1<<63 - 1)
