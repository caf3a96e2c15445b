package main

import (
	"errors"
	"testing"

	"jambalaya/internal/backend/cuda"
	"jambalaya/internal/cli"
)

// TestNoGPU asks for a GPU where there is none.
func TestNoGPU(t *testing.T) {
	t.Parallel()
	if b, err := cuda.New(0); !errors.Is(err, cuda.ErrUnavailable) {
		if err == nil {
			b.Close()
		}
		t.Skip("this machine has a GPU")
	}
	p := train(t, newWorkspace(t), ofTiny("--device", "cuda")...)
	checkProcess(t, p, cli.CodeConfig, []string{"device cuda: ", "no usable NVIDIA GPU; use --device cpu"}, nil)
}

// TestUnknownPath asks for instructions that no processor has.
func TestUnknownPath(t *testing.T) {
	t.Parallel()
	cmd, stdout, stderr := newProcess(newWorkspace(t), ofTiny()...)
	cmd.Env = append(cmd.Env, "JAMBALAYA_SIMD=mmx")
	if err := cmd.Run(); err == nil {
		t.Error("it trains")
	}
	p := process{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
	checkProcess(t, p, cli.CodeConfig, []string{"device cpu: ", "mmx"}, nil)
}
