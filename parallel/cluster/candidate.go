package cluster

import "time"

// Candidate decides when a process should take the lease.
type Candidate struct {
	observer Observer
	delay    time.Duration
	ttl      time.Duration
	expired  time.Duration // since when; -1: not
}

// NewCandidate returns a candidate that leaves others a delay to take an expired
// lease first: the rank that it prefers times a moment, so that they seldom meet.
func NewCandidate(delay, ttl time.Duration) *Candidate {
	return &Candidate{delay: delay, ttl: ttl, expired: -1}
}

// Due takes the lease as read at a time and reports whether to take it.
func (c *Candidate) Due(now time.Duration, r Record) bool {
	if !c.observer.Expired(now, r, c.ttl) {
		c.expired = -1
		return false
	}
	if c.expired < 0 {
		c.expired = now
	}
	return now-c.expired >= c.delay
}
