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
		{"step --preset nano-nano", cli.CodeConfig, ""},
		{"step --steps 0", cli.CodeConfig, ""},
		{"step --device tpu", cli.CodeConfig, ""},
		{"kernels --presets nano-nano", cli.CodeConfig, ""},
		{"kernels extra", cli.CodeConfig, ""},
		{"steps", cli.CodeConfig, ""},
		{"", cli.CodeOK, "kernels"},
	} {
		cmd := newCommand()
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetArgs(strings.Fields(c.args))
		err := cmd.ExecuteContext(context.Background())
		if cli.Code(err) != c.code || !strings.Contains(out.String(), c.out) {
			t.Errorf("bench %s: code %d, want %d: %v\n%s", c.args, cli.Code(err), c.code, err, out.String())
		}
	}
}
