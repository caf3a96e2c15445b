// Package hub reads and writes folders as model hubs hold them: config.json, and the
// weights in model.safetensors, or in several files with model.safetensors.index.json.
//
//	m, err := hub.Open("hub/nano")              // every name and shape is checked
//	defer m.Close()
//	err = m.Config.LoadHub(values, m)
//
//	err = hub.Write(fsys, "nano", cfg, hub.Options{DType: safetensors.BF16}, load)
//
// Jamba, Mixtral, Llama and Mamba are known, under the reference implementation's names.
//
// # Invariants
//
// float32 weights keep every bit both ways. bfloat16 ones are rounded to the nearest,
// ties to even. Write holds one tensor in memory at a time, and the folder appears
// whole or not at all. The same weights give the same bytes.
//
// # Failures
//
// model.ErrHub marks a model that this program or the hub's format cannot express, and
// weights that do not fit their config.json; every fault is listed. Files may come from
// anywhere: names in the index lead nowhere else, sizes are checked before memory is
// taken, and nothing panics.
package hub
