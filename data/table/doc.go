// Package table writes a table as an Arrow file, for results that people analyse in
// tools of their own.
//
//	err := table.Write(f, []table.Column{{"run", []string{"a", "b"}}, {"loss", []float64{1.2, 1.1}}})
//
// Values are strings, int64 or float64; a float64 that is not a number is null. All
// columns are of one length: another is a mistake of the program and gives an error.
package table
