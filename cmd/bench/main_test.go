package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"jambalaya/internal/cli"
)

func TestCommand(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		out  string
	}{
		{"step --preset test-tiny --steps 1 --threads 1 --json", cli.CodeOK, `"tokens_per_s_best":`},
		{"step --preset test-tiny --steps 1 --threads 1", cli.CodeOK, "between kernels"},
		{"step --preset nano-nano", cli.CodeConfig, `nano-nano`},
		{"step --steps 0", cli.CodeConfig, "bench: --steps 0: want 1 or more\n"},
		{"step --steps x", cli.CodeConfig, `try bench step --help`},
		{"step --device tpu", cli.CodeConfig, `bench: --device tpu: trainer.device: "tpu" is not one of auto, cpu, cuda`},
		{"step --threads -1", cli.CodeConfig, "bench: --threads -1: trainer.threads: -1 is not between"},
		{"ranks --device tpu", cli.CodeConfig, "bench: --device tpu: "},
		{"ranks --preset test-tiny --ranks 1,2 --steps 1 --threads 1 --device cpu", cli.CodeOK, "2x1"},
		{"ranks --preset test-tiny --ranks 2 --expert 2 --steps 1 --threads 1 --device cpu --json", cli.CodeOK, `"expert":2`},
		{"ranks --ranks 0", cli.CodeConfig, "--ranks [0], --expert 1, --steps 10: want 1 or more"},
		{"ranks --preset test-tiny --ranks 3 --expert 2", cli.CodeConfig, "parallel.expert"},
		{"kernels --presets nano-nano", cli.CodeConfig, "nano-nano"},
		{"kernels --device tpu", cli.CodeConfig, `device "tpu"`},
		{"kernels --threads -1", cli.CodeConfig, "threads"},
		{"kernels extra", cli.CodeConfig, `unexpected argument "extra"; try bench kernels --help`},
		{"scale --ranks 0", cli.CodeConfig, "--ranks 0: want 1 or more"},
		{"scale --gpu b300", cli.CodeConfig, "--gpu b300: want h100 or h200"},
		{"scale --preset test-tiny --ranks 7", cli.CodeConfig, "7"},
		{"steps", cli.CodeConfig, `unknown command "steps"; try bench --help`},
		{"", cli.CodeOK, "kernels"},
		{"scale --help", cli.CodeOK, "Exit codes: 0 done"},
	} {
		cmd := newCommand()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(strings.Fields(c.args))
		if code := cli.Execute(context.Background(), cmd); code != c.code || !strings.Contains(out.String(), c.out) {
			t.Errorf("bench %s: code %d, want %d and %q\n%s", c.args, code, c.code, c.out, out.String())
		}
	}
}
