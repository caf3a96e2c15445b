// Package launch runs the processes of a run: it joins package trainer, which trains as
// one rank, with the agents of parallel/cluster, which decide who the ranks are. It
// stands above both, so that neither knows of the other.
//
//	place, err := launch.PlaceFrom(os.Getenv, join)
//	err = launch.Worker(ctx, cfg, options) // a process that trains, for a scheduler that starts all
//	err = launch.Launch(ctx, cfg, options) // starts such processes on this machine, and looks after them
//
// A launcher starts its own program again with the environment variables that
// distributed programs are started with everywhere (RANK and so on), so that a worker
// knows no difference. It writes their lines with the rank before each, shows one bar,
// serves metrics, passes signals on, and starts a worker again that a signal or a panic
// has ended. It coordinates nothing: the workers do that among them.
//
// # Failures
//
// A worker that returns an error would do so again, and ends the run with its exit
// code: 78 for the configuration, else 1. One that is killed is started again, at once
// the first time, later with a wait that doubles, until parallel.restarts deaths in a
// row. A launcher that dies takes its workers with it: they save, and end with 75.
package launch
