// Package safetensors reads and writes the safetensors format, version 1: eight
// bytes with the length of a JSON header, the header, and the tensors end to end.
//
//	f, err := safetensors.Open("model.safetensors") // memory-mapped
//	defer f.Close()
//	x, err := f.Tensor("model.embed_tokens.weight")
//	values, err := x.Float32s() // a view of the file where type and alignment allow
//
//	n, err := safetensors.Write(w, nil, []safetensors.Tensor{{
//		Name: "a", DType: safetensors.F32, Shape: []int64{2, 3}, Data: safetensors.Bytes(values),
//	}})
//
// Stream writes a file of which one tensor at a time is in memory. ReadHeader serves readers that fetch ranges themselves.
//
// # Invariants
//
// The reader is strict, since files come from anywhere: the header is at most 16
// MiB and lies within the file; at most a million tensors; names are unique; sizes
// are products that do not overflow; the tensors cover the rest of the file
// without gaps or overlaps. All of it is checked before anything of a tensor's
// size is allocated. The writer is deterministic: the same tensors and metadata
// give the same bytes, in the order given, and data begins at a multiple of eight.
//
// Data is little-endian, in files as in memory: the package is for processors that
// are.
//
// # Failures
//
// A file that breaks a rule gives an error that wraps ErrFormat and names the
// tensor; an absent tensor gives ErrNoTensor; values of another type than asked for
// give ErrType. Bad input never panics. A mapped file that somebody truncates while
// it is open kills the process, as with every mapping: verify, then open.
package safetensors
