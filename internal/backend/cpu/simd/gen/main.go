// Command gen writes the assembly of package simd with avo. It is a module of its own, so that the program
// that uses the kernels does not depend on avo. Package simd runs it by go:generate:
//
//	go run . -kernels gemm -pkg simd -out ../gemm_amd64.s -stubs ../gemm_stubs_amd64.go
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/reg"
)

// generators maps the name of a kernel family to the function that emits it. Each file registers its own.
var generators = map[string]func(){}

func register(name string, generate func()) { generators[name] = generate }

// Vector registers by number, the way the kernels pick them.
var (
	zmm = []reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
		reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
		reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31}
	ymm = []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
		reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15}
)

func main() {
	kernels := flag.String("kernels", "", "kernel family to generate: "+strings.Join(families(), ", "))
	flag.Parse()
	generate, ok := generators[*kernels]
	if !ok {
		fmt.Fprintf(os.Stderr, "gen: -kernels %q: choose one of %s\n", *kernels, strings.Join(families(), ", "))
		os.Exit(2)
	}
	generate()
	build.Generate()
}

func families() []string { return slices.Sorted(maps.Keys(generators)) }
