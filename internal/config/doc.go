// Package config reads configuration strictly: YAML and --set assignments into
// nested plain structs that already hold their defaults.
//
//	cfg := trainer.Default()
//	origins, err := config.Load(&cfg, config.File{Name: "nano.yaml", Text: text}, []string{"trainer.steps=500"})
//	err = config.Locate(cfg.Validate(), origins)
//	text, err := config.Encode(cfg) // the run's config.yaml
//
// Fields carry their key in a yaml tag. They are structs, bools, integers,
// floats, strings, or slices, arrays and pointers of these; null is a value of
// pointers only.
//
// # What is refused
//
// Keys that do not exist, given twice or without a value; values of another
// type; texts of more than MaxBytes; anchors, aliases and tags; more than one
// document. So is everything that YAML 1.1 and 1.2 read differently: 010 (8 or
// 10), yes (true or a word), 1:30 (90 or a word), 1_000. A word that looks like
// a number, a truth value or null must be quoted to be a string.
//
// # Invariants
//
// Decoding what Encode wrote gives an equal value, and equal values have the
// same text and the same Hash.
//
// # Failures
//
// All faults come at once, joined, each a *Fault that matches ErrInvalid and
// reads "file:line:column: key: what is wrong". After a failure the struct may be
// partly filled. A struct that breaks the rules above panics: it is a mistake of
// the program, and no input can cause it.
package config
