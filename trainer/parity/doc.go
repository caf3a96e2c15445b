// Package parity compares the model with recorded runs of the reference
// implementation.
//
// A case is a folder with config.json and model.safetensors as on a model hub,
// and golden.safetensors with what the reference computed from them: hidden
// states, logits, loss, gradients, a greedy continuation, and twenty AdamW steps.
//
//	report, err := parity.Run(backend, "testdata/golden/jamba_1to7", parity.DefaultTolerances())
//	fmt.Print(report)
//
// Everything runs as in training: the same graph, plan, kernels and optimiser.
// A case that cannot be read is an error; one that differs is a report whose Pass
// is false.
package parity
