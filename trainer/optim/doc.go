// Package optim holds what an optimiser step decides on the host: the learning
// rate, the bias corrections, and whether a step is applied at all. The update
// itself is an operator of the model, which runs where the weights are.
//
//	verdict := state.Judge(loss, cfg.SpikeThreshold)
//	b1, b2 := cfg.Optim.Corrections(state.Applied + 1)
//	err := update.Run(model.Hyper{LR: cfg.Optim.Rate(step, steps), Bias1: b1, Bias2: b2, Skip: verdict != optim.Applied})
//	norm := ... // read back
//	verdict = state.Record(verdict, loss, norm)
//
// # Invariants
//
// The learning rate is a pure function of the configuration, the step and the
// number of steps. State is all that a step depends on besides; a checkpoint
// holds it, and a resumed run decides as the uninterrupted one would have.
//
// # Failures
//
// Only a configuration can be at fault; Validate reports all of it at once. A loss or norm
// that is not finite is a Verdict, not an error.
package optim
