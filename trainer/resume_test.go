package trainer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"jambalaya/checkpoint"
	"jambalaya/data"
	"jambalaya/internal/cli"
	"jambalaya/internal/prng"
	"jambalaya/internal/vfs"
	"jambalaya/trainer/report"
)

// Environment of the test binary when it is the process that is killed.
const (
	childDir    = "JAMBALAYA_TEST_RUN"     // the run's directory
	childCache  = "JAMBALAYA_TEST_CACHE"   // of the shards
	childKillOp = "JAMBALAYA_TEST_KILL_OP" // die at this operation on the checkpoints' file system
	childFault  = "JAMBALAYA_TEST_FAULT"   // let the GPU fail there instead
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir))
	}
	os.Exit(m.Run())
}

// tinyConfig is a run of a second with every kind of layer, over this repository's
// own text.
func tinyConfig(cache string) Config {
	c := Default()
	c.Model.VocabSize, c.Model.HiddenSize, c.Model.IntermediateSize = 272, 32, 32
	c.Model.NumHiddenLayers, c.Model.LayerPattern, c.Model.MambaDState = 4, "mMaM", 8
	c.Data = data.Config{Sources: []data.Source{{Path: "../model", Ext: ".go"}}, SequenceLength: 48, Tokenizer: "bytes", CacheDir: cache, Prefetch: 2}
	c.Trainer.Steps, c.Trainer.BatchSize, c.Trainer.Accumulation = 40, 2, 2
	c.Trainer.EvalEvery, c.Trainer.EvalTokens, c.Trainer.Samples = 10, 480, 0
	c.Optim.LR, c.Optim.WarmupSteps = 3e-3, 5
	c.Checkpoint.Every, c.Checkpoint.Keep = 3, 2
	return c
}

// child trains in dir, and perhaps kills itself. It returns the exit code.
func child(dir string) int {
	opt := Options{Name: "tiny", Out: dir, Stdout: os.Stdout}
	if n, err := strconv.Atoi(os.Getenv(childKillOp)); err == nil {
		opt.wrap = func(fsys vfs.FS) vfs.FS {
			count := 0
			return vfs.NewFaults(fsys, func(vfs.Op) error {
				switch count++; {
				case count == n && os.Getenv(childFault) != "":
					return breakDevice()
				case count == n:
					syscall.Kill(os.Getpid(), syscall.SIGKILL)
					select {} // the signal is on its way
				}
				return nil
			})
		}
	}
	err := Run(context.Background(), tinyConfig(os.Getenv(childCache)), opt)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return cli.Code(err)
}

// TestKilledRunsResumeBitIdentical kills a run with SIGKILL twenty times, ten
// times at a random operation of a checkpoint being written and ten times at a
// random moment, and compares what it leaves with an uninterrupted run: the
// metrics but for the clock, and every bit of weights and moments.
func TestKilledRunsResumeBitIdentical(t *testing.T) {
	t.Parallel()
	cache, whole, killed := t.TempDir(), t.TempDir(), t.TempDir()
	if _, err := runChild(t, whole, cache, ending{}); err != nil {
		t.Fatalf("uninterrupted run: %v", err)
	}
	rng := prng.New(uint64(time.Now().UnixNano()), "kills")
	deaths := 0
	for i := 0; deaths < 20; i++ {
		if i == 100 {
			t.Fatalf("only %d of %d starts were killed", deaths, i)
		}
		var end ending
		if i%2 == 0 {
			end.op = 10 + rng.IntN(60)
		} else {
			end.delay = time.Duration(1+rng.IntN(150)) * time.Millisecond
		}
		out, err := runChild(t, killed, cache, end)
		if err == nil { // the run came to its end: once more from the start
			if deaths < 20 {
				compareRuns(t, whole, killed)
				killed = t.TempDir()
			}
			continue
		}
		if status := err.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
			t.Fatalf("start %d ended by itself: %v\n%s", i, err, out)
		}
		deaths++
	}
	if out, err := runChild(t, killed, cache, ending{}); err != nil {
		t.Fatalf("last start: %v\n%s", err, out)
	}
	compareRuns(t, whole, killed)
}

// ending is how a process that trains is kept from its end: killed at an operation on its
// checkpoints' file system, or a delay after it has said that it trains; not at all if
// both are 0. With fault the GPU fails at the operation instead.
type ending struct {
	op    int
	delay time.Duration
	fault bool
}

// runChild starts a process that trains in dir.
func runChild(t *testing.T, dir, cache string, end ending) (string, *exec.ExitError) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childDir+"="+dir, childCache+"="+cache)
	if end.op > 0 {
		cmd.Env = append(cmd.Env, childKillOp+"="+strconv.Itoa(end.op))
	}
	if end.fault {
		cmd.Env = append(cmd.Env, childFault+"=1")
	}
	var out bytes.Buffer
	ready := &readyWriter{out: &out, mark: []byte("memory:"), ready: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = ready, ready
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if end.delay > 0 {
		go func() {
			<-ready.ready
			time.Sleep(end.delay) // a random moment of the training that now begins
			cmd.Process.Kill()
		}()
	}
	err := cmd.Wait()
	ready.done()
	if err == nil {
		return out.String(), nil
	}
	exit, ok := err.(*exec.ExitError)
	if !ok {
		t.Fatal(err)
	}
	return out.String(), exit
}

// readyWriter collects output and closes ready when it has seen mark.
type readyWriter struct {
	out    *bytes.Buffer
	mark   []byte
	ready  chan struct{}
	closed bool
}

func (w *readyWriter) Write(p []byte) (int, error) {
	w.out.Write(p)
	if bytes.Contains(w.out.Bytes(), w.mark) {
		w.done()
	}
	return len(p), nil
}

func (w *readyWriter) done() {
	if !w.closed {
		w.closed = true
		close(w.ready)
	}
}

func compareRuns(t *testing.T, a, b string) {
	t.Helper()
	if x, y := metricsText(t, a), metricsText(t, b); x != y {
		t.Errorf("metrics differ:\n%s\nand\n%s", x, y)
	}
	if x, y := weightsHash(t, a), weightsHash(t, b); x != y {
		t.Errorf("final weights and moments differ: %s and %s", x, y)
	}
}

// metricsText is the deterministic part of a run's metrics.
func metricsText(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, metricsFile))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, line := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		fields, err := report.Deterministic(line)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(fields, '\n'))
	}
	return out.String()
}

// weightsHash is a hash of every tensor of a run's last checkpoint.
func weightsHash(t *testing.T, dir string) string {
	t.Helper()
	fsys, err := vfs.Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, skipped, err := checkpoint.Find(context.Background(), fsys, checkpointDir)
	if err != nil || len(skipped) > 0 {
		t.Fatalf("%v, skipped %v", err, skipped)
	}
	h := sha256.New()
	fmt.Fprintln(h, c.State.Step)
	tensors := slices.Clone(c.Tensors()) // in the order of the files, which ranks share out
	slices.SortFunc(tensors, func(a, b checkpoint.TensorInfo) int { return strings.Compare(a.Name, b.Name) })
	for _, info := range tensors {
		n := int64(1)
		for _, d := range info.Shape {
			n *= d
		}
		x := make([]float32, n)
		if err := c.Load(info.Name, x); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(h, info.Name, info.Shape)
		for _, v := range x {
			fmt.Fprintf(h, "%08x", math.Float32bits(v))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
