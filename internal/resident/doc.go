// Package resident measures the memory that the process has in use.
//
//	resident.Reset()
//	work()
//	peak := resident.Peak() // bytes, of all that the process had meanwhile
//
// It reads what Linux counts; elsewhere nothing is known and Peak is 0.
package resident
