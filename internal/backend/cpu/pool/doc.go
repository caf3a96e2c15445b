// Package pool runs the tasks of one kernel on a fixed set of goroutines.
//
//	p := pool.New(0)                  // GOMAXPROCS workers, the caller being one of them
//	defer p.Close()
//	p.Run(len(tiles), g.tile)         // g.tile is func(task, worker int), bound once
//
// Run calls the function for every task in [0, tasks) and returns when all are done. Tasks are taken in order,
// dynamically; which worker gets one is not defined, so a task must compute the same values wherever it runs.
// The worker index is in [0, Workers()) and is held by one task at a time: it selects a workspace.
//
// Run allocates nothing. A closure made at the call does, because it outlives the call as far as the compiler
// can see: bind the function once, in the struct that holds its arguments.
//
// Goroutines that call Run at the same time take turns. A task must not call Run on its own pool; it uses
// Within(worker), which runs serially under the task's own worker index.
//
// Helpers spin for some tens of microseconds after a run and then park, since waking a parked core costs more
// than a small kernel and an idle process should use no CPU. A panic in a task ends the run: tasks not yet
// started are skipped, and Run panics on the caller's goroutine with a *TaskPanic.
package pool
