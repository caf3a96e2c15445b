// Package model defines the Jamba family: blocks of Mamba and attention layers,
// each followed by an MLP or a mixture of experts, and, as other configurations
// of the same parts, Mixtral, Llama and Mamba.
//
//	cfg := model.Default()
//	g, err := model.NewTrainingGraph(cfg, batch, length, model.GraphOptions{})
//	w, err := model.NewWeights(backend, cfg, true)
//	err = w.Init(seed)
//	plan, err := engine.NewPlan(g.Program, backend, engine.Options{Bind: w.Bind(g.Params, g.Grads, g.Sums)})
//	err = plan.Run() // loss and gradients of one micro-batch
//
// Reading order: config.go says what can be chosen, param.go what weights that
// means, graph.go how the layers follow each other, mixers.go and feedforward.go
// what is inside them, training.go what is differentiated. decoding.go builds the
// same layers with states, which generator.go runs token by token. weights.go and
// update.go hold the parameters and advance them. hub.go and hf_config.go speak
// the reference implementation's names.
//
// # Invariants
//
// Graphs are made of the operators of package op alone. A graph is differentiated
// once, by gorgonia. Nothing here knows about devices, storage types, ranks or
// files. The same configuration and seed give the same weights on every machine.
//
// # Failures
//
// Configurations are validated by Config.Validate, which reports every fault with
// its key; the functions here expect a valid one and panic on their own mistakes
// only. Files of the hub that do not fit match ErrHub.
package model
