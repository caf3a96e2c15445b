// Package inproc connects ranks that are goroutines of one process. Its links have
// a bandwidth and a latency, so that tests and simulations see what a network does
// to the order and the overlap of things.
//
//	network := inproc.New(4, func(from, to int) inproc.Link {
//		return inproc.Link{BytesPerSecond: 1e9, Latency: 50 * time.Microsecond}
//	})
//	transport, err := network.Join(parallel.Identity{Run: run, Generation: 1}, rank)
//
// Time is that of the time package: inside testing/synctest.Test it is virtual, and
// the delays are exact.
//
// A rank joins a generation once. Joining a later generation ends its membership of
// the earlier one. Messages to a rank that has not joined yet wait for it; messages
// to a rank that is in a later generation are refused with parallel.ErrGeneration.
package inproc
