package checkpoint

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"jambalaya/internal/vfs"
)

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	root, err := vfs.Dir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	m := open(t, root, Options{Run: "r", Term: 4, Mesh: map[string]int{"data": 1}})
	_, _, err = m.Latest(context.Background())
	wantErr(t, err, ErrNone)
	if m.Saved() != -1 {
		t.Errorf("Saved = %d before the first", m.Saved())
	}
	save(t, m, 10, 20)

	m = open(t, root, Options{Run: "r"})
	c, skipped := latest(t, m)
	if len(skipped) > 0 || m.Saved() != 20 {
		t.Errorf("skipped %v, saved %d", skipped, m.Saved())
	}
	got := c.Manifest
	if got.Step != 20 || got.Parent != 10 || got.Run != "r" || got.Term != 4 || got.Generation != 1 || got.Mesh["data"] != 1 {
		t.Errorf("manifest %+v", got)
	}
	if m.Generation() != 2 {
		t.Errorf("generation %d after one of 1", m.Generation())
	}
	want := []string{
		"expert-L01-E000.safetensors", "expert-L01-E001.safetensors", "expert-L01-E002.safetensors", "index.json",
		"manifest.json", "model-r0000-of-0001.safetensors", "optim-r0000-of-0001.safetensors", "state.json",
	}
	if names := children(t, root, dir+"/step-00000020"); !slices.Equal(names, want) {
		t.Errorf("files %v", names)
	}
	if string(c.State.Trainer) == "" || c.State.LearningRate != 0.1 {
		t.Errorf("state %+v", c.State)
	}
}

// TestSnapshotIsCopied changes the tensors while the save is held up.
func TestSnapshotIsCopied(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	release := make(chan struct{})
	m := open(t, vfs.NewFaults(mem, func(op vfs.Op) error {
		if op.Kind == "create" {
			<-release
		}
		return nil
	}), Options{})
	s := snapshot(10)
	if err := m.Save(s); err != nil {
		t.Fatal(err)
	}
	for _, tensor := range s.Tensors {
		clear(tensor.Data)
	}
	close(release)
	if err := m.Wait(); err != nil {
		t.Fatal(err)
	}
	latest(t, m)
}

func TestOneSaveInFlight(t *testing.T) {
	t.Parallel()
	var inFlight, most atomic.Int32
	m := open(t, vfs.NewMem(), Options{Config: Config{Every: 1, Keep: 100, MaxFailures: 1}, Fence: func() error {
		if n := inFlight.Add(1); n > most.Load() {
			most.Store(n)
		}
		return nil
	}, Done: func(Result) { inFlight.Add(-1) }})
	for step := range int64(30) {
		if err := m.Save(snapshot(step)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Wait(); err != nil {
		t.Fatal(err)
	}
	if most.Load() != 1 || m.Saved() != 29 {
		t.Errorf("%d saves at once, saved %d", most.Load(), m.Saved())
	}
}

func TestRetention(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	m := open(t, mem, Options{Config: Config{Every: 1, Keep: 2, KeepEvery: 30, MaxFailures: 1}})
	save(t, m, 10, 20, 30, 40, 50, 60, 70, 80)
	if got := steps(t, mem); !slices.Equal(got, []int64{80, 70, 60, 30}) {
		t.Errorf("kept %v", got)
	}
	if names := children(t, mem, dir); len(names) != 4 {
		t.Errorf("left %v", names)
	}
}

// TestRetentionReadsBack corrupts each new checkpoint behind the writer's back:
// the good one must stay.
func TestRetentionReadsBack(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	var evil atomic.Bool
	m := open(t, vfs.NewFaults(mem, func(op vfs.Op) error {
		if evil.Load() && op.Kind == "rename" && op.Name == dir+"/step-00000020" {
			tmp := dir + "/" + writingDir(20, 1) + "/" + stateName
			data, err := vfs.ReadFile(mem, tmp, 1<<20)
			data[len(data)/2] ^= 1
			return errors.Join(err, mem.Remove(tmp), vfs.WriteFile(mem, tmp, data))
		}
		return nil
	}), Options{Config: Config{Every: 1, Keep: 1, MaxFailures: 2}})
	save(t, m, 10)
	evil.Store(true)
	if err := m.Save(snapshot(20)); err != nil {
		t.Fatal(err)
	}
	wantErr(t, m.Wait(), ErrCorrupt)
	if got := steps(t, mem); !slices.Equal(got, []int64{10}) {
		t.Errorf("published %v", got)
	}
	if got := children(t, mem, dir+"/quarantine"); !slices.Equal(got, []string{"step-00000020"}) {
		t.Errorf("in quarantine: %v", got)
	}
	evil.Store(false)
	save(t, m, 20)
}

func TestPublication(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	old, young := open(t, mem, Options{Generation: 3}), open(t, mem, Options{Generation: 4})
	save(t, old, 10)
	if err := young.Save(snapshot(10)); err != nil {
		t.Fatal(err)
	}
	wantErr(t, young.Wait(), ErrExists)
	save(t, young, 20)
	if err := old.Save(snapshot(30)); err != nil {
		t.Fatal(err)
	}
	wantErr(t, old.Wait(), ErrFenced)
	wantErr(t, old.Save(snapshot(40)), ErrFenced)
	if got := steps(t, mem); !slices.Equal(got, []int64{20, 10}) {
		t.Errorf("published %v", got)
	}
	lost := open(t, mem, Options{Generation: 5, Fence: func() error { return ErrFenced }})
	if err := lost.Save(snapshot(50)); err != nil {
		t.Fatal(err)
	}
	wantErr(t, lost.Wait(), ErrFenced)
	if names := children(t, mem, dir); len(names) != 2 {
		t.Errorf("left %v", names)
	}
}

// TestLatePublication stops a writer right before its rename, and lets a newer
// generation publish meanwhile.
func TestLatePublication(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	young := open(t, mem, Options{Generation: 2})
	old := open(t, vfs.NewFaults(mem, func(op vfs.Op) error {
		if op.Kind == "rename" && op.Name == dir+"/step-00000030" {
			save(t, young, 20)
		}
		return nil
	}), Options{Generation: 1})
	if err := old.Save(snapshot(30)); err != nil {
		t.Fatal(err)
	}
	wantErr(t, old.Wait(), ErrFenced)
	if got := steps(t, mem); !slices.Equal(got, []int64{20}) {
		t.Errorf("published %v", got)
	}
}

func TestFailedSavesAreSurvived(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	var full atomic.Bool
	var results []Result
	m := open(t, vfs.NewFaults(mem, func(op vfs.Op) error {
		if full.Load() && op.Kind == "write" {
			return syscall.ENOSPC
		}
		return nil
	}), Options{Config: Config{Every: 1, Keep: 3, MaxFailures: 3}, Done: func(r Result) { results = append(results, r) }})
	save(t, m, 10)
	full.Store(true)
	for _, step := range []int64{20, 30} {
		if err := m.Save(snapshot(step)); err != nil {
			t.Fatalf("one failure ended training: %v", err)
		}
		wantErr(t, m.Wait(), syscall.ENOSPC)
	}
	full.Store(false)
	save(t, m, 40) // good again, and the count of failures starts anew
	full.Store(true)
	for _, step := range []int64{50, 60, 70} {
		if err := m.Save(snapshot(step)); err != nil {
			t.Fatal(err)
		}
	}
	wantErr(t, m.Save(snapshot(80)), ErrGivenUp)
	err := m.Wait()
	wantErr(t, err, ErrGivenUp)
	wantErr(t, err, syscall.ENOSPC)
	if got := steps(t, mem); !slices.Equal(got, []int64{40, 10}) {
		t.Errorf("published %v", got)
	}
	if names := children(t, mem, dir); len(names) != 2 {
		t.Errorf("failed saves left %v", names)
	}
	if len(results) != 7 || results[1].Err == nil || results[3].Err != nil || results[3].Bytes == 0 {
		t.Errorf("results %+v", results)
	}
}

func TestOpenClearsLeftovers(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	keep := []string{".tmp-step-00000010-g9", ".tmp-mine", "notes", "step-10", "step-00000001"}
	gone := []string{".tmp-step-00000010-g5", ".tmp-step-00000020-g1", ".tmp-step-00000030-deleted"}
	for _, name := range slices.Concat(keep, gone) {
		if err := vfs.MkdirAll(mem, dir+"/"+name+"/sub"); err != nil {
			t.Fatal(err)
		}
	}
	open(t, mem, Options{Generation: 5})
	slices.Sort(keep)
	if got := children(t, mem, dir); !slices.Equal(got, keep) {
		t.Errorf("left %v, want %v", got, keep)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	if _, err := Open(vfs.NewMem(), dir, Options{}); err == nil {
		t.Error("opened with a configuration of zeros")
	}
	readOnly := vfs.NewFaults(vfs.NewMem(), func(op vfs.Op) error {
		if op.Kind == "mkdir" {
			return syscall.EROFS
		}
		return nil
	})
	_, err := Open(readOnly, dir, Options{Config: Default()})
	wantErr(t, err, syscall.EROFS)
}

func TestInvalidSnapshots(t *testing.T) {
	t.Parallel()
	m := open(t, vfs.NewMem(), Options{})
	for name, change := range map[string]func(*Snapshot){
		"group":    func(s *Snapshot) { s.Tensors[0].Group = "../model" },
		"no group": func(s *Snapshot) { s.Tensors[0].Group = "" },
		"twice":    func(s *Snapshot) { s.Tensors = append(s.Tensors, s.Tensors[0]) },
		"data":     func(s *Snapshot) { s.Tensors[0].Data = s.Tensors[0].Data[1:] },
		"dtype":    func(s *Snapshot) { s.Tensors[0].DType = "F1" },
		"shape":    func(s *Snapshot) { s.Tensors[4].Shape = []int64{3, 4, 6} },
		"hole":     func(s *Snapshot) { s.Tensors = slices.Delete(s.Tensors, 3, 4) },
		"overlap":  func(s *Snapshot) { s.Tensors[4].Start = []int64{0, 0, 0} },
		"outside":  func(s *Snapshot) { s.Tensors[4].Start = []int64{3, 0, 0} },
		"rank":     func(s *Snapshot) { s.Tensors[4].Start = []int64{1, 0} },
		"negative": func(s *Snapshot) { s.State.Step = -1 },
	} {
		s := snapshot(10)
		change(s)
		if err := m.Save(s); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: error %v, want ErrSnapshot", name, err)
		}
	}
	if err := m.Wait(); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	err := Config{Every: 0, Keep: 0, KeepEvery: -1, MaxFailures: 0}.Validate()
	for _, key := range []string{"every: ", "keep: ", "keep_every: ", "max_failures: "} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("no fault of %q in %v", key, err)
		}
	}
}
