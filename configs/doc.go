// Package configs holds the presets: YAML files, embedded into the program.
//
//	file, err := configs.Load("nano")        // a preset
//	file, err := configs.Load("my/job.yaml") // a file
//
// A preset gives what differs from the defaults. Every one of them is decoded,
// validated and, where its size is known, counted in a test.
//
// # Failures
//
// A name that is no preset matches ErrUnknown, and the error says which there are.
// Errors of reading a file are returned with its path.
package configs
