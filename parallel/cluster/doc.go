// Package cluster decides which workers train together: it makes generations out of
// the processes that there are, and sees to it that one that has been replaced can
// do no harm. It holds the protocol; package agent runs it on real processes.
//
//	c := cluster.NewCoordinator(settings, now, lease.Term(), log, &hello)
//	for _, action := range c.Step(now, event) { ... }
//
// A Coordinator and a Worker are state machines: events in, actions out, and the time
// is an argument. They open no sockets, read no clocks and start no goroutines, and so
// the scenarios in testdata run whole clusters, failures included, in no time.
//
// # Protocol
//
//  1. A worker that starts, or that has lost its coordinator, takes a fresh incarnation,
//     finds the coordinator and joins. What must be the same on all workers (program,
//     configuration, data) is compared with the coordinator's, and the first field that
//     differs refuses it.
//  2. When all wanted workers have joined, or enough have when the join window ends,
//     the coordinator records the next generation, durably, and then publishes it:
//     members, ranks, mesh, and the term of its lease.
//  3. Members leave the generation before, by aborting its transport, and acknowledge,
//     or there is a next generation without them.
//  4. The step to resume from is the newest checkpoint whose manifest all have read.
//  5. Members load it and meet: generation, step and state must be the same. They go.
//  6. Whatever a member says carries its generation; what is of another is ignored.
//
// A member that is lost, whose stream breaks, that is silent for the length of its
// lease, or that reports a failed operation ends the generation. The next one follows
// at once, then with longer and longer waits as long as no step of progress is made,
// until a budget is spent.
//
// # Lease and log
//
// One process coordinates: the one that holds the lease, a file in the run's directory
// (LeaseDir) that has a term and expires. The generations are in the file GENERATIONS
// (Log), a line each, appended by the holder of the lease. A successor replays it, and
// uses no number again. Fence, which is asked before a checkpoint is published,
// compares a rank's generation and term with both. All machines of a run share that
// directory; what the network between them does makes no difference to who may write.
//
// It makes one to who can train. A coordinator that less than half of the workers come
// to yields the lease, if the others are enough: they may be on the other side of a
// network that has fallen apart, or unable to hear it.
//
// # Invariants
//
// No two generations have the same number, whatever fails and whoever wakes up.
// A generation is in the log before any worker hears of it. Terms and generations only
// grow, and a worker refuses what is older than what it knows.
//
// # Failure
//
// Errors of the run's directory end a coordinator, not the run: its lease expires, and
// another process tries. A worker without a coordinator trains on until its generation
// breaks, and after the length of a join window ends with 75, to be started again.
package cluster
