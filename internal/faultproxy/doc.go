// Package faultproxy stands between two ends of a connection and is the network that
// one fears: slow, cut, one-way, corrupting.
//
//	p, err := faultproxy.ListenTCP("127.0.0.1:0", target, seed)
//	p.Set(faultproxy.Forward, faultproxy.Fault{Delay: 50 * time.Millisecond, Rate: 1_250_000})
//	p.Set(faultproxy.Both, faultproxy.Fault{Stall: true})       // a partition
//	p.Set(faultproxy.Backward, faultproxy.Fault{Stall: true})   // one way only
//	p.SetFrom("127.0.0.2", faultproxy.Both, faultproxy.Fault{Stall: true}) // for one peer
//	p.Set(faultproxy.Both, faultproxy.Fault{})                  // healed
//	p.Reset()                                                   // all connections, at once
//
// ListenUDP does the same for datagrams, which can be dropped and repeated too. Faults
// may be changed at any time and hold for what passes from then on; what was under way
// in a stall arrives when it ends, as on a link that comes up again.
//
// Each address that peers come from is a link of its own, with its own rate and chance.
//
// The order of bytes and datagrams of one direction stays. What is changed or dropped
// is drawn from the seed, in the order in which it passes.
package faultproxy
