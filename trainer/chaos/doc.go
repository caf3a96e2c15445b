// Package chaos breaks training runs on purpose and measures what becomes of them:
// the scorecard of docs/reliability.md.
//
//	err := chaos.Run(ctx, chaos.Options{Rows: rows, Short: true, Seed: 1, Out: os.Stdout})
//
// A row is a test with a number, a target and a figure. It starts real processes of
// the train command, kills, stops, cuts and fills whatever its name says, and compares
// the outcome with a run that was left alone. Rows that only read bytes do so in a child
// process, whose memory and end are measured from outside.
//
// Reading order: row.go lists the rows and prints them, lab.go holds what they share
// (the binary, a tiny model, its data), process.go starts and watches a process,
// outcome.go compares runs. Each further file is a row or a few that belong together.
//
// # Invariants
//
// What a row draws by chance comes from the seed and the row's number. When a signal
// arrives inside a process is up to the scheduler, so a repetition kills at other
// instructions; the seed fixes the plan, not the interleaving.
//
// A row that needs a right it does not have (mounting a file system, tracing a process)
// is printed as skipped with the reason, never as met.
//
// # Failures
//
// Run returns ErrMissed if a row missed its target. The work directory, with the output
// of every process, is kept then, and removed otherwise.
package chaos
