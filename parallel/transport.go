package parallel

import (
	"context"
	"time"
)

// MinWindow is how many messages a Channel holds, at least, between two ranks
// before Send blocks. The collectives send less than that ahead of what they have
// received, which is why no two ranks wait for each other for ever.
const MinWindow = 16

// Transport carries messages between the ranks of one generation of one run.
type Transport interface {
	// Rank and Size are those of the world.
	Rank() int
	Size() int
	// Identity is what every message must carry.
	Identity() Identity
	// Channel opens a way to the other ranks that does not wait for other channels.
	// Both ends use the same name.
	Channel(name string) Channel
	// Abort makes every pending and later call, on all ranks, fail with an
	// AbortError that gives this rank and the reason. The first one counts.
	Abort(reason error)
	// Close waits, for a while, until what was sent has been taken, and ends the
	// transport. The ranks that still wait for this one get ErrLost.
	Close() error
}

// Timed is a Transport that knows how long messages take. A slow network is seen by who
// receives: a collective keeps all ranks waiting alike.
type Timed interface {
	// UnderWay returns, by rank, for how long in all there was something of that rank on
	// its way to this one, beyond the time that the fastest message takes.
	UnderWay() []time.Duration
}

// Identity names a generation of a run.
type Identity struct {
	Run        uint64 // hash of the run's id
	Generation uint64
}

// Channel carries messages from each rank to each other one in the order in which
// they were sent.
type Channel interface {
	// Send takes the message over. It waits only while MinWindow messages or more
	// are on their way.
	Send(ctx context.Context, to int, m Message) error
	// Recv returns the next message of a rank.
	Recv(ctx context.Context, from int) (Message, error)
}
