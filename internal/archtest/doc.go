// Package archtest holds the test that keeps the packages of this module apart.
//
// The arrows say who may import whom, directly or by skipping steps:
//
//	cmd -> experiments -> trainer -> {model, data, parallel, checkpoint} -> internal
//
// The four in braces never import each other: what one needs of another it
// declares as a small interface, and trainer joins them. Nothing imports
// experiments but cmd/ablate. configs is a leaf (embedded files) that cmd,
// experiments and trainer read. Each heavy dependency stays in the trees that
// rules.go names, and cgo is nowhere.
//
// The rules are data (rules.go). A new top-level directory, or a dependency that
// has to move, is a change there, to be argued in review.
//
// The test parses the import clauses of every Go file of the module, test files
// and files of other platforms included; it runs no tool, so that Go's test cache
// sees what it read and runs it again when an import changes.
package archtest
