// Package experiments compares variants of a model over seeds: a grid of ordinary
// runs, and a report that says what differs by more than noise.
//
//	spec, err := experiments.LoadSpec(file, []string{"trainer.steps=100"})
//	grid, err := experiments.NewGrid(spec) // every cell resolved, matched and validated
//	err = experiments.Run(ctx, grid, experiments.Options{Out: "runs/ablation", Stdout: os.Stdout})
//
// # In the directory of a grid
//
// grid.yaml is the Spec as resolved; cells/NAME/ are the runs, with result.json where
// one is done; costs/ has what each variant costs, measured alone on the machine when all
// cells are done; report.html, report.md, figures/, results.csv and results.arrow are written from
// these, again at each call.
//
// # Invariants
//
// All variants of a seed see the same samples in the same order, which is checked
// before the runs (their data and batches are the same) and after (their checkpoints
// carry the same hash). Variants are matched to the reference within Match.Tolerance or the
// grid is refused. A cell that is done is never run again; one that was stopped goes on
// from its last checkpoint.
//
// # Failures
//
// Whatever is wrong with a cell is found before any runs, and its variant named:
// ErrGrid, or an error of the configuration. ErrOtherGrid marks a folder of another grid. A cell
// that fails twice is reported as missing, the others go on, and Run returns
// ErrIncomplete in the end.
package experiments
