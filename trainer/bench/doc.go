// Package bench measures this program on the machine it runs on: training steps
// (Step) and the kernels of the CPU (Kernels).
//
//	report, err := bench.Step(ctx, bench.StepOptions{Preset: "cpu-peer", Threads: 2, Steps: 10})
//	report.Print(os.Stdout)
//
// What is timed is what trains: a step is the trainer's own, on random tokens,
// and kernels run in engine plans. Nothing is turned off for it, and no kernel
// is called past its backend, but for the two ceilings and softplus, which is
// not an operator of its own.
//
// # Floors and ceilings
//
// A kernel cannot be quicker than its arithmetic at the machine's peak, nor than
// its operands at the speed of a copy: each is read or written once. The larger
// of the two times is the kernel's floor, and fraction_of_ceiling is the floor
// divided by the best time measured. Both ceilings are measured in the same run
// with the same number of threads. work.go counts arithmetic and bytes.
//
// # Failures
//
// A preset or instruction set that does not exist is a configuration error (exit
// code 78). Figures of a machine that is busy are worthless, so every report has
// the load average; where the system does not tell (/proc is absent), machine,
// load and resident memory are left out.
package bench
