package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jambalaya/internal/config"
	"jambalaya/internal/safetensors"
	"jambalaya/trainer"
)

const golden = "../../model/testdata/golden"

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// tensors returns the bytes of every tensor of a folder.
func tensors(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "model*.safetensors"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no weights in %s: %v", dir, err)
	}
	all := map[string][]byte{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := safetensors.Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(dir, golden) && f.Metadata["format"] != "pt" {
			t.Errorf("%s: metadata %v: the reference refuses files without a format", name, f.Metadata)
		}
		for _, info := range f.Tensors {
			x, err := f.Tensor(info.Name)
			if err != nil {
				t.Fatal(err)
			}
			all[info.Name] = x.Data
		}
	}
	return all
}

// TestRoundTrip imports every golden case, exports it, in one file and in many, and
// compares bit by bit. The export passes parity.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob(filepath.Join(golden, "*", "config.json"))
	if err != nil || len(cases) < 9 {
		t.Fatalf("golden cases: %v, %v", cases, err)
	}
	for _, c := range cases {
		from := filepath.Dir(c)
		t.Run(filepath.Base(from), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			run, one, many := filepath.Join(dir, "run"), filepath.Join(dir, "one"), filepath.Join(dir, "new", "many")
			wantOutput(t, []string{"import", from, "--out", run}, 0, run+": ", "tokenizer bytes", "its vocabulary of ")
			wantOutput(t, []string{"verify", "--run", run}, 0, "ok   step-00000000")
			wantOutput(t, []string{"export", "--run", run, "--out", one}, 0, "after step 0, as float32", "{config.json, model.safetensors}")
			wantOutput(t, []string{"export", "--run", run, "--out", many, "--file-bytes", "50000"}, 0, "model.safetensors.index.json}")

			want := tensors(t, from)
			for _, folder := range []string{one, many} {
				got := tensors(t, folder)
				if len(got) != len(want) {
					t.Errorf("%s: %d tensors, want %d", folder, len(got), len(want))
				}
				for name := range want {
					if !bytes.Equal(got[name], want[name]) {
						t.Errorf("%s: %s is not bit for bit what was imported", folder, name)
					}
				}
			}
			copyFile(t, filepath.Join(from, "golden.safetensors"), filepath.Join(many, "golden.safetensors"))
			wantOutput(t, []string{"parity", many, "--device", "cpu", "--threads", "1"}, 0, "PASS", "1 of 1 cases pass")
			again := filepath.Join(dir, "again")
			wantOutput(t, []string{"import", many, "--out", again}, 0, again)
			if a, b := loadRun(t, run), loadRun(t, again); a != b {
				t.Errorf("another configuration:\n%s\nand\n%s", a, b)
			}
		})
	}
}

func loadRun(t *testing.T, dir string) string {
	t.Helper()
	cfg, err := trainer.LoadRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := config.Encode(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestBF16 exports in half the bytes: every element the nearest bfloat16.
func TestBF16(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run, out := filepath.Join(dir, "run"), filepath.Join(dir, "out")
	from := filepath.Join(golden, "jamba_1to7")
	wantOutput(t, []string{"import", from, "--out", run}, 0)
	wantOutput(t, []string{"export", "--run", run, "--out", out, "--dtype", "bfloat16"}, 0, "as bfloat16")
	got := tensors(t, out)
	for name, data := range tensors(t, from) {
		x, err := safetensors.Tensor{DType: safetensors.F32, Data: data}.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		y, err := safetensors.Tensor{DType: safetensors.BF16, Data: got[name]}.Float32s()
		if err != nil || len(y) != len(x) {
			t.Fatalf("%s: %d elements, %v", name, len(y), err)
		}
		for i := range x {
			if d := float64(y[i]) - float64(x[i]); d*d > float64(x[i])*float64(x[i])/(1<<16) { // half a unit of 8 bits
				t.Fatalf("%s: %g became %g", name, x[i], y[i])
			}
		}
	}
	var config map[string]any
	text, err := os.ReadFile(filepath.Join(out, "config.json"))
	if err != nil || json.Unmarshal(text, &config) != nil || config["dtype"] != "bfloat16" || config["torch_dtype"] != "bfloat16" {
		t.Errorf("config.json: %s, %v", text, err)
	}
	wantOutput(t, []string{"import", out, "--out", filepath.Join(dir, "again")}, 0, "jamba")
}

// TestHubFaults gives each bad command line or folder one clear end, and leaves
// nothing behind.
func TestHubFaults(t *testing.T) {
	t.Parallel()
	from := filepath.Join(golden, "jamba_1to7")
	run := filepath.Join(t.TempDir(), "run")
	wantOutput(t, []string{"import", from, "--out", run}, 0)
	pattern := copyDir(t, run)
	rewrite(t, filepath.Join(pattern, "config.yaml"), `layer_pattern: ""`, "layer_pattern: mMmaMmMm")
	damaged := copyDir(t, run)
	if err := os.Truncate(filepath.Join(damaged, "checkpoints/step-00000000/model-r0000-of-0001.safetensors"), 100); err != nil {
		t.Fatal(err)
	}
	spoilt := func(name, old, new string) string {
		dir := copyDir(t, from)
		rewrite(t, filepath.Join(dir, name), old, new)
		return dir
	}
	index := func(text string) string {
		dir := copyDir(t, from)
		if err := os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for _, c := range []struct {
		name string
		args []string // "OUT" is the folder to make
		code int
		want string
	}{
		{"no run", []string{"export", "--out", "OUT"}, 78, "--run runs/nano"},
		{"no out", []string{"export", "--run", run}, 78, "--out hub/nano"},
		{"missing run", []string{"export", "--run", run + "x", "--out", "OUT"}, 78, "is not the directory of a run"},
		{"type", []string{"export", "--run", run, "--out", "OUT", "--dtype", "int8"}, 78, "float32 or bfloat16"},
		{"taken", []string{"export", "--run", run, "--out", run}, 78, "there is something already"},
		{"layout", []string{"export", "--run", pattern, "--out", "OUT"}, 78, `layer_pattern: "mMmaMmMm" is not a period and an offset`},
		{"damaged", []string{"export", "--run", damaged, "--out", "OUT"}, 1, "no checkpoint"},
		{"no folder", []string{"import", "--out", "OUT"}, 78, "which model?"},
		{"no run's directory", []string{"import", from}, 78, "--out runs/imported"},
		{"missing folder", []string{"import", from + "x", "--out", "OUT"}, 78, "x: no such file or directory; name a folder with config.json and model.safetensors"},
		{"missing folder and run's directory", []string{"import", from + "x"}, 78, "name a folder with"},
		{"no model", []string{"import", run, "--out", "OUT"}, 78, "config.json: no such file or directory; name a folder with"},
		{"family", []string{"import", spoilt("config.json", `"model_type": "jamba"`, `"model_type": "bert"`), "--out", "OUT"}, 78, `model_type "bert" is not one of`},
		{"shape", []string{"import", spoilt("config.json", `"mamba_d_state": 8`, `"mamba_d_state": 4`), "--out", "OUT"}, 78, "A_log has shape [64 8], want [64 4]"},
		{"no weights", []string{"import", spoilt("config.json", `"tie_word_embeddings": false`, `"tie_word_embeddings": true`), "--out", "OUT"}, 78, "lm_head.weight has no place"},
		{"tokenizer", []string{"import", from, "--out", "OUT", "--tokenizer", "gpt5"}, 78, "unknown tokenizer"},
		{"bad index", []string{"import", index("{"), "--out", "OUT"}, 78, "index.json"},
		{"empty index", []string{"import", index("{}"), "--out", "OUT"}, 78, "names no files"},
		{"path in the index", []string{"import", index(`{"weight_map": {"a": "../model.safetensors"}}`), "--out", "OUT"}, 78, "is not the name of a file"},
		{"wrong index", []string{"import", index(`{"weight_map": {"a": "model.safetensors"}}`), "--out", "OUT"}, 78, "model.safetensors holds "},
	} {
		t.Run(c.name, func(t *testing.T) { wantNothing(t, c.args, c.code, c.want) })
	}
}

// wantNothing is wantOutput for a command that makes a folder, OUT, but fails, and leaves
// nothing of it.
func wantNothing(t *testing.T, args []string, code int, want string) {
	t.Helper()
	t.Parallel()
	dir := t.TempDir()
	for i, a := range args {
		if a == "OUT" {
			args[i] = filepath.Join(dir, "out")
		}
	}
	wantOutput(t, args, code, want)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// copyDir returns a copy of a directory.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), filepath.Base(from))
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func rewrite(t *testing.T, name, from, to string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil || !strings.Contains(string(text), from) {
		t.Fatalf("%s has no %q: %v", name, from, err)
	}
	if err := os.WriteFile(name, []byte(strings.Replace(string(text), from, to, 1)), 0o666); err != nil {
		t.Fatal(err)
	}
}
