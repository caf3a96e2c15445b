package model

// routes say which rows go where in a round. The rows that a rank has to compute make a
// list, by expert, then by the rank that sends them, then in its order: the order in
// which one rank alone would have them. A round is a window of so many rows of each
// rank's list. A sender's rows of a window are a range of its own rows that travel, as
// those are in the order of the experts too.
type routes struct {
	rank, ranks  int
	experts, per int // of a layer, and on a rank
	room         int
	bySender     bool    // a round has all rows of one sender instead: see turn
	counts       []int32 // [ranks, experts] rows of each sender for each expert

	// Of the round.
	sendFrom, sends []int   // first of this rank's rows for each rank, and their number
	receives        []int   // rows of each rank
	pieces          []piece // of what is received
	leaving         []leaving
	offsets         []int // rows of each expert that is held, and their number

	bytes [2][]int
}

// piece is some rows of an expert and a sender.
type piece struct {
	from    int // the sender
	there   int // first row in the order of the experts
	arrived int // and in the order in which they arrive: by sender
	rows    int
}

// leaving is some of this rank's rows for an expert of another, or of its own.
type leaving struct {
	to   int
	here int // first row
	rows int
}

func newRoutes(rank, ranks, experts, room int) *routes {
	return &routes{
		rank: rank, ranks: ranks, experts: experts, per: experts / ranks, room: room,
		sendFrom: make([]int, ranks), sends: make([]int, ranks), receives: make([]int, ranks),
		offsets: make([]int, experts/ranks+1), bytes: [2][]int{make([]int, ranks), make([]int, ranks)},
	}
}

// plan takes the counts of a layer and returns the number of rounds: at least one.
func (r *routes) plan(counts []int32) int {
	r.counts = counts
	if r.bySender {
		return r.ranks
	}
	rounds := 1
	for to := range r.ranks {
		rows := 0
		r.each(to, func(_, _, n int) { rows += n })
		rounds = max(rounds, (rows+r.room-1)/r.room)
	}
	return rounds
}

// each goes over the list of what a rank has to compute.
func (r *routes) each(to int, f func(expert, from, rows int)) {
	for e := to * r.per; e < (to+1)*r.per; e++ {
		for from := range r.ranks {
			f(e, from, int(r.counts[from*r.experts+e]))
		}
	}
}

// turn is the rank whose rows another computes in a round by sender: in each, all ranks
// pair up. To every rank the senders come in the order of one tree, as in package parallel's.
func (r *routes) turn(to, round int) int { return to ^ round }

// within goes over the pieces of a rank's list that lie in a round's window; skip is
// how many of the sender's rows for the expert come before.
func (r *routes) within(to, round int, f func(expert, from, skip, rows int)) {
	if r.bySender {
		r.each(to, func(expert, from, n int) {
			if from == r.turn(to, round) && n > 0 {
				f(expert, from, 0, n)
			}
		})
		return
	}
	at, lo, hi := 0, round*r.room, (round+1)*r.room
	r.each(to, func(expert, from, n int) {
		if a, b := max(at, lo), min(at+n, hi); a < b {
			f(expert, from, a-at, b-a)
		}
		at += n
	})
}

// window sets the routes of a round and returns the number of rows that this rank
// receives.
func (r *routes) window(round int) int {
	first := 0 // of this rank's rows for the expert
	r.leaving = r.leaving[:0]
	for to := range r.ranks {
		r.sends[to], r.sendFrom[to] = 0, first
		base, expert := first, to*r.per
		r.within(to, round, func(e, from, skip, n int) {
			if from != r.rank {
				return
			}
			for ; expert < e; expert++ {
				base += int(r.counts[r.rank*r.experts+expert])
			}
			if r.sends[to] == 0 {
				r.sendFrom[to] = base + skip
			}
			r.leaving = append(r.leaving, leaving{to, base + skip, n})
			r.sends[to] += n
		})
		for e := to * r.per; e < (to+1)*r.per; e++ {
			first += int(r.counts[r.rank*r.experts+e])
		}
	}
	clear(r.receives)
	r.within(r.rank, round, func(_, from, _, n int) { r.receives[from] += n })
	arrived := make([]int, r.ranks)
	for from := 1; from < r.ranks; from++ {
		arrived[from] = arrived[from-1] + r.receives[from-1]
	}
	r.pieces = r.pieces[:0]
	clear(r.offsets)
	there := 0
	r.within(r.rank, round, func(expert, from, _, n int) {
		r.pieces = append(r.pieces, piece{from: from, there: there, arrived: arrived[from], rows: n})
		arrived[from] += n
		there += n
		r.offsets[expert-r.rank*r.per+1] += n
	})
	for e := range r.per {
		r.offsets[e+1] += r.offsets[e]
	}
	return there
}

// inBytes scales counts of rows. The result of one call is valid until the second next.
func (r *routes) inBytes(rows []int, size int) []int {
	r.bytes[0], r.bytes[1] = r.bytes[1], r.bytes[0]
	for i, n := range rows {
		r.bytes[0][i] = n * size
	}
	return r.bytes[0]
}
