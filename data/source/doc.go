// Package source reads documents: the Go distribution's own source, files below a
// directory, JSON lines and Parquet.
//
//	src, err := source.OpenGo()                                  // text that is wherever Go is
//	src, err := source.Open("essays", source.Options{Ext: ".md"}) // a file is a document
//	src, err := source.Open("corpus.jsonl", source.Options{})     // a row is a document, its field "text"
//	for doc, err := range src.Documents() { … }
//
// The extension decides the format: .jsonl and .parquet files hold a document a
// row, all others are one document each. Documents come in order of the files'
// paths, then of the rows, and each belongs to training or is held out.
//
// # What is held out
//
// Options.HeldOut names directories or files. Otherwise it is decided by hashes of
// names, so that a document keeps its place when others come and go: of text files
// about 2% of the bytes (at least 1 MB, at most 3 MB, never above a tenth) in whole
// directories, since files of one directory resemble each other, or in single files
// where there are few directories; of rows every fiftieth.
//
// The Go source is every .go file below $(go env GOROOT)/src except those below a
// testdata directory (many are wrong on purpose), those that a program wrote ("Code
// generated … DO NOT EDIT.", two fifths of all bytes, mostly tables) and second
// copies of the same bytes, which would leak from training to what is held out.
//
// # Failures
//
// Errors are one line and name the file, the row, and what to do. ErrInput marks
// them. Corrupt Parquet gives an error, not a panic, but the library may take much
// memory before it notices: give it files you trust.
package source
