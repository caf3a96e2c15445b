package model

import "jambalaya/internal/engine"

// limit leaves rows out whose assignment was dropped: as they have no weight, nobody asks
// what the experts say of them.
type limit struct {
	weights *engine.Tensor // [T,K] of the assignments
	source  *engine.Tensor // [S] the assignment of each row
}

// limited makes a layer one with a limit.
func (l *expertLayer) limited(weights, source *engine.Tensor) {
	l.limit = &limit{weights, source}
	if e := l.Exchange; cap(e.travelling) < l.rows {
		e.weights, e.assignment, e.travelling = make([]float32, l.rows), make([]int32, l.rows), make([]int32, 0, l.rows)
	}
}

// count sets the number of this rank's rows for each expert, of those that travel, and
// lists those.
func (l *expertLayer) count() error {
	if l.limit == nil {
		for e := range l.counts {
			l.counts[e] = l.firsts[e+1] - l.firsts[e]
		}
		return nil
	}
	weights, assignment := l.weights[:l.rows], l.assignment[:l.rows]
	if err := l.backend.Read(weights, l.limit.weights); err != nil {
		return err
	}
	if err := l.backend.Read(assignment, l.limit.source); err != nil {
		return err
	}
	l.travelling = l.travelling[:0]
	for e := range l.counts {
		before := len(l.travelling)
		for row := l.firsts[e]; row < l.firsts[e+1]; row++ {
			if weights[assignment[row]] != 0 {
				l.travelling = append(l.travelling, row)
			}
		}
		l.counts[e] = int32(len(l.travelling) - before)
	}
	return nil
}

// eachRun goes over n of the rows that travel, in stretches that follow each other.
func (l *expertLayer) eachRun(from, n int, f func(row, n int)) {
	if l.limit == nil {
		f(from, n)
		return
	}
	rows := l.travelling[from : from+n]
	for len(rows) > 0 {
		run := 1
		for run < len(rows) && rows[run] == rows[0]+int32(run) {
			run++
		}
		f(int(rows[0]), run)
		rows = rows[run:]
	}
}

// clearDropped zeroes the rows that have not travelled.
func (l *expertLayer) clearDropped(rows []byte) {
	if l.limit == nil {
		return
	}
	size, next := len(rows)/l.rows, 0
	for _, row := range l.travelling {
		clear(rows[next*size : int(row)*size])
		next = int(row) + 1
	}
	clear(rows[next*size:])
}
