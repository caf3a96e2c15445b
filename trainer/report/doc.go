// Package report writes what a run leaves to read: metrics.jsonl, loss.png, and
// the sizes to which ordinary compressors bring the text that it validates on.
//
//	m, err := report.OpenMetrics(dir+"/metrics.jsonl", resumedStep) // -1 for a fresh run
//	err = m.Append(report.Line{Step: 1, Tokens: 4096, Train: &report.Train{Loss: 5.6}, Timing: report.Now(tokensPerS)})
//	err = m.Sync() // before the checkpoint of this step is committed
//	lines, err := report.ReadMetrics(dir + "/metrics.jsonl")
//	err = report.PlotLoss(dir+"/loss.png", report.Plot{Title: "nano", Lines: lines})
//
// # metrics.jsonl
//
// An object a line and a line a step, in order of steps: what the step measured,
// and, where the weights after it were validated, val_loss and bits_per_byte.
// Step 0, if it is there, is the validation of the weights as initialised. Numbers
// round-trip exactly; those that are not finite are null.
//
// Every field but tokens_per_s and time depends only on the configuration and the
// data: a run that was interrupted and resumed writes the same values as one that
// was not. Deterministic strips the two.
//
// # Invariants
//
// A line is one write. OpenMetrics cuts off all lines after the resumed step, and
// a last line that was not finished, so that no step ever has two lines, wherever the
// run was killed. loss.png is replaced as a whole.
//
// # Failures
//
// Errors of the file system are returned with the path. After a failed Append the
// file ends with the line before. A line in the middle of the file that is none
// matches ErrDamaged: nothing is cut off.
package report
