package cluster

import (
	"encoding/json"
	"fmt"
)

// Kind is what a message of the control stream says.
type Kind string

// The messages. A worker opens a stream to the coordinator and sends Join first.
const (
	// From a worker.
	KindJoin    Kind = "join"    // Hello: wants to be a member
	KindAck     Kind = "ack"     // has left every earlier generation; Checkpoints it can read
	KindReady   Kind = "ready"   // has loaded Step, and its state has this Hash
	KindReport  Kind = "report"  // heartbeat, with how far it is
	KindFailed  Kind = "failed"  // an operation of the generation failed, for Reason
	KindStopped Kind = "stopped" // the generation ended early, with its state saved
	KindDone    Kind = "done"    // the run is complete
	KindLeave   Kind = "leave"   // will not come back by itself; Code and Reason say why
	KindWatch   Kind = "watch"   // wants to see the status, and is no worker

	// From the coordinator.
	KindRefuse   Kind = "refuse"   // Hello does not fit: Field and Reason
	KindGenerate Kind = "generate" // Plan of a generation: leave the one before and acknowledge
	KindResume   Kind = "resume"   // load Step (-1: none) and say Ready
	KindGo       Kind = "go"       // all are ready: train
	KindAbort    Kind = "abort"    // the generation has ended, for Reason
	KindEnd      Kind = "end"      // the run has ended, with Code, for Reason
	KindStatus   Kind = "status"   // Status, for who watches
	KindBeat     Kind = "beat"     // the coordinator lives
)

// MaxMessage bounds an encoded message, in bytes.
const MaxMessage = 256 << 10

// Message is what crosses the control stream, either way. Which fields count
// depends on the kind.
type Message struct {
	Kind       Kind   `json:"kind"`
	Term       uint64 `json:"term,omitempty"`       // of the coordinator's lease
	Generation uint64 `json:"generation,omitempty"` // that the message is about

	Hello       *Hello       `json:"hello,omitempty"`
	Plan        *Generation  `json:"plan,omitempty"`
	Report      *Report      `json:"report,omitempty"`
	Status      *Status      `json:"status,omitempty"`
	Checkpoints []Checkpoint `json:"checkpoints,omitempty"`

	Step   int64  `json:"step,omitempty"`
	Hash   string `json:"hash,omitempty"`
	Field  string `json:"field,omitempty"`
	Reason string `json:"reason,omitempty"`
	Code   int    `json:"code,omitempty"` // that the process exits with
}

// Hello is what a worker says of itself when it joins.
type Hello struct {
	Run         string       `json:"run"`         // the run's identity
	Incarnation string       `json:"incarnation"` // new each time a worker joins
	Worker      string       `json:"worker"`      // name of its place, kept when the process is started again
	Rank        int          `json:"rank"`        // that its environment prefers, -1: none
	Address     string       `json:"address"`     // where other ranks reach it
	ConfigHash  string       `json:"config_hash"` // of Facts
	Binary      string       `json:"binary"`      // version of the program
	Facts       []Fact       `json:"facts"`       // what must be the same on all workers
	Checkpoints []Checkpoint `json:"checkpoints"` // it can read, in any order
}

// Fact is one value that all workers must agree on: a key of the configuration,
// or the hash of the data.
type Fact struct {
	Field string `json:"field"`
	Value string `json:"value"`
}

// Checkpoint is one whose manifest a worker has read.
type Checkpoint struct {
	Step int64  `json:"step"`
	Hash string `json:"hash"` // of the manifest
}

// Generation is a set of workers with ranks. It is what the log records.
type Generation struct {
	Number     uint64   `json:"generation"`
	Term       uint64   `json:"term"` // of the lease that it was made under
	Run        string   `json:"run"`
	Mesh       Mesh     `json:"mesh"`
	ConfigHash string   `json:"config_hash"`
	Members    []Member `json:"members"` // by rank
}

// Mesh is the size of the two axes.
type Mesh struct {
	Data   int `json:"data"`
	Expert int `json:"expert"`
}

// Size returns the number of ranks.
func (m Mesh) Size() int { return m.Data * m.Expert }

// Member is a worker of a generation; its rank is its place in the list.
type Member struct {
	Worker      string `json:"worker"`
	Incarnation string `json:"incarnation"`
	Address     string `json:"address"`
}

// Rank returns the rank of an incarnation, -1 if it is not a member.
func (g *Generation) Rank(incarnation string) int {
	for rank, m := range g.Members {
		if m.Incarnation == incarnation {
			return rank
		}
	}
	return -1
}

// Report is how far a worker is.
type Report struct {
	Step      int64   `json:"step"`
	Saved     int64   `json:"saved"`     // step of the newest checkpoint
	Tokens    float64 `json:"tokens"`    // a second, of this worker
	Seconds   float64 `json:"seconds"`   // of the last step
	Busy      float64 `json:"busy"`      // seconds of them in which it did not wait for others; 0: not known
	Link      float64 `json:"link"`      // seconds of them in which messages of rank From were under way to it; 0: not known
	From      int     `json:"from"`      // the rank whose messages were so for longest
	Loss      float64 `json:"loss"`      // cross-entropy of the last step
	Imbalance float64 `json:"imbalance"` // load of the busiest expert over the mean, worst layer; 0: no experts
	Steps     int64   `json:"steps"`     // of the whole run; 0: not known
	Still     float64 `json:"still"`     // seconds without a step; 0: not for long
	Operation string  `json:"operation"` // collective that it then waits in, "": none
	Waiting   float64 `json:"waiting"`   // seconds for which it has
}

// Encode writes a message as it crosses the wire.
func (m *Message) Encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err == nil && len(b) > MaxMessage {
		err = fmt.Errorf("%s message of %d bytes, at most %d are sent", m.Kind, len(b), MaxMessage)
	}
	return b, err
}

// Decode reads what Encode wrote.
func Decode(b []byte) (*Message, error) {
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("%w of %d bytes, at most %d are read", ErrMessage, len(b), MaxMessage)
	}
	m := &Message{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMessage, err)
	}
	switch {
	case m.Kind == "":
		return nil, fmt.Errorf("%w without a kind", ErrMessage)
	case m.Kind == KindJoin && m.Hello == nil, m.Kind == KindGenerate && m.Plan == nil, m.Kind == KindReport && m.Report == nil:
		return nil, fmt.Errorf("%w: %s without its contents", ErrMessage, m.Kind)
	}
	return m, nil
}
