package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jambalaya/internal/cli"
)

const goldens = "../../model/testdata/golden/"

// TestParity holds the command to what the cases say; package parity runs them all.
func TestParity(t *testing.T) {
	t.Parallel()
	one, other := goldens+"mamba", goldens+"jamba_mamba_only_dense"
	wantOutput(t, []string{"parity", "--device", "cpu", one, other}, cli.CodeOK,
		"hidden.0", "grad.backbone.embeddings.weight", "grad.model.layers.0.mamba.A_log", "gradients", "adamw losses", "greedy tokens", "PASS", "2 of 2 cases pass on cpu/")
	if out, _ := execute("parity", "--brief", "--device", "cpu", one); strings.Contains(out, "grad.") || !strings.Contains(out, "worst backbone.") {
		t.Errorf("not brief: %s", out)
	}
	for _, flag := range []string{"--tolerance", "--gradient-tolerance", "--adamw-loss-tolerance", "--adamw-norm-tolerance"} {
		wantOutput(t, []string{"parity", "--device", "cpu", flag, "1e-300", one}, cli.CodeFailure,
			"FAIL", "0 of 1 cases pass", "the model differs from the reference")
	}
}

func TestParityBadInput(t *testing.T) {
	t.Parallel()
	wantOutput(t, []string{"parity"}, cli.CodeConfig, "which cases? Name their folders")
	wantOutput(t, []string{"parity", "--tolerance", "x", goldens + "mamba"}, cli.CodeConfig, `invalid argument "x" for "--tolerance"`)
	wantOutput(t, []string{"parity", "--device", "tpu", goldens + "mamba"}, cli.CodeConfig, `device "tpu": want auto, cpu or cuda`)
	empty := t.TempDir()
	wantOutput(t, []string{"parity", empty}, cli.CodeFailure, empty+" is not a case (config.json, model.safetensors, golden.safetensors)")
	for _, name := range []string{"config.json", "model.safetensors", "golden.safetensors"} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(goldens+"mamba")); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, name), 100); err != nil {
			t.Fatal(err)
		}
		wantOutput(t, []string{"parity", "--device", "cpu", dir}, cli.CodeFailure, name)
	}
}
