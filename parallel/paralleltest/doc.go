// Package paralleltest is the conformance suite of the collectives: what every
// transport must do, in values, bits, errors and time.
//
//	func TestConformance(t *testing.T) {
//		paralleltest.Run(t, 4, func(t *testing.T, size int) paralleltest.World { ... })
//	}
//
// The package of the transport calls goleak.VerifyTestMain, which finds what an
// aborted operation left running.
package paralleltest
