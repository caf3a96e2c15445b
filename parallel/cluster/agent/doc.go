// Package agent runs the protocol of package cluster on a real process: it gives the
// state machines their clock, sockets and files.
//
//	node, err := rpc.Listen("127.0.0.1:0", rpc.Options{})
//	gossip, err := agent.StartGossip(agent.GossipOptions{Run: id, Worker: name, ...})
//	ended := agent.Run(ctx, agent.Options{Node: node, Gossip: gossip, Train: train, ...})
//
// Every process that trains has one. The agents of a run elect nobody: whoever takes
// the lease in the run's directory coordinates, besides training, until its process
// ends or another has taken the lease.
//
// # Invariants
//
// One goroutine runs the machines, and all that happens is posted to it. Nothing there
// waits: the lease and the log are written by another goroutine, streams have queues,
// and training runs in its own.
//
// # Failure
//
// A process that dies is noticed at once, by its broken stream; one that is stopped, or
// cut off, after the lease in cluster.Settings. Who was with a coordinator at whose
// address nobody listens any more does not wait for its lease to expire. Gossip has no say: it helps to find the
// coordinator, and makes it look twice at a worker that gossip thinks dead.
package agent
