package cuda

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"jambalaya/internal/engine"
)

// kernelFiles are the sources by name.
func kernelFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(sources, "kernels", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := sources.ReadFile(path)
		files[d.Name()] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestSources checks rules that all kernels keep.
func TestSources(t *testing.T) {
	t.Parallel()
	atomics := regexp.MustCompile(`atomic\w*\(&?(\w+)`)
	for name, text := range kernelFiles(t) {
		if strings.Contains(text, "#include") {
			t.Errorf("%s includes a file: the machine has no headers", name)
		}
		for _, m := range atomics.FindAllStringSubmatch(text, -1) {
			if (name != "sort.cu" || m[1] != "count") && (!strings.HasSuffix(name, "_hopper.cu") || m[1] != "next") {
				t.Errorf("%s: %s: only integers are added atomically: the sort counts, blocks take tiles in turn", name, m[0])
			}
		}
		found := signatures(text)
		if n := strings.Count(text, "__global__"); n != len(found) {
			t.Errorf("%s: %d kernels, signatures of %d", name, n, len(found))
		}
		for kernel, parameters := range found {
			for _, p := range parameters {
				if !regexp.MustCompile(`^\s*(const )?(__grid_constant__ )?\w+ \*?\w+$`).MatchString(p) {
					t.Errorf("%s: %s: parameter %q", name, kernel, p)
				}
				if regexp.MustCompile(`^\s*(int|unsigned|long)\b[^*]*$`).MatchString(p) {
					t.Errorf("%s: %s: %q: sizes are index_t", name, kernel, p)
				}
			}
		}
	}
}

// TestHopperSources compiles the kernels for Hopper, where there is a compiler but
// perhaps no device. Products that wait for one another are not worth having.
func TestHopperSources(t *testing.T) {
	t.Parallel()
	c, err := openCompiler("sm_90a")
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	bf16 := &engine.Tensor{DType: engine.BFloat16}
	for file, defines := range map[string][]define{
		"attention_hopper":      hopperDefines(128),
		"attention_grad_hopper": hopperGradDefines(128),
		"attention_stats":       {constant("D", 128)},
		"grouped_hopper":        groupedDefines(bf16),
	} {
		_, remarks, err := c.build(file, source(file, defines))
		if err != nil {
			t.Error(err)
		}
		if strings.Contains(remarks, "serialized") {
			t.Errorf("%s: %s", file, remarks)
		}
	}
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	got := signatures("extern \"C\" __global__ void __launch_bounds__(THREADS, 2) f(float *y, index_t n,\n\tfloat eps) {\n}\n")
	if p := got["f"]; len(got) != 1 || len(p) != 3 || fits(p[0], address(1)) != nil || fits(p[1], 3) != nil || fits(p[2], float32(1)) != nil {
		t.Fatalf("signatures: %q", got)
	}
	for i, wrong := range []any{3, float32(1), 1.0} {
		if fits(got["f"][i], wrong) == nil {
			t.Errorf("%T passes for %q", wrong, got["f"][i])
		}
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	c, code := cache{t.TempDir()}, []byte("machine code")
	k := key("sm_90a", "13.0", "source")
	if _, ok := c.load(k); ok {
		t.Fatal("found in an empty cache")
	}
	c.store(k, code)
	if got, ok := c.load(k); !ok || !bytes.Equal(got, code) {
		t.Fatalf("load = %q, %t", got, ok)
	}
	if _, ok := c.load(key("sm_90a", "13.0source")); ok {
		t.Error("found under another key")
	}
	data, err := os.ReadFile(c.file(k))
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		damaged := bytes.Clone(data)
		damaged[i] ^= 1
		if err := os.WriteFile(c.file(k), damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, ok := c.load(k); ok {
			t.Fatalf("byte %d damaged and not noticed", i)
		}
	}
	if err := os.WriteFile(c.file(k), data[:20], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.load(k); ok {
		t.Error("half a file is taken for whole")
	}
}

// TestUnavailable: without the driver the error says what is missing.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	_, err := openLibrary("install it", "libnothing-of-this-name.so.1")
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "libnothing-of-this-name.so.1") || !strings.Contains(err.Error(), "install it") {
		t.Errorf("openLibrary: %v", err)
	}
	be, err := New(0)
	if err == nil {
		be.Close()
	} else if !errors.Is(err, ErrUnavailable) {
		t.Errorf("New: %v", err)
	}
}

// gpu is a backend, or the test is skipped with the reason.
func gpu(t testing.TB) *Backend {
	t.Helper()
	be, err := New(0)
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(be.Close)
	return be
}

// TestTransfer moves more than the staging memory holds.
func TestTransfer(t *testing.T) {
	be := gpu(t)
	x := make([]int32, stagingBytes/4*2+12345)
	for i := range x {
		x[i] = int32(i * 7)
	}
	mem, err := be.Alloc(int64(4 * len(x)))
	if err != nil {
		t.Fatal(err)
	}
	defer be.Free(mem)
	tensor := &engine.Tensor{Shape: []int{len(x)}, DType: engine.Int32, Mem: mem}
	got := make([]int32, len(x))
	if err := be.Read(got, tensor); err != nil || got[len(got)-1] != 0 {
		t.Fatalf("memory is not zero: %d, %v", got[len(got)-1], err)
	}
	if err := be.Write(tensor, x); err != nil {
		t.Fatal(err)
	}
	if err := be.Read(got, tensor); err != nil {
		t.Fatal(err)
	}
	for i := range x {
		if got[i] != x[i] {
			t.Fatalf("element %d is %d, want %d", i, got[i], x[i])
		}
	}
	if err := be.Read(make([]float32, len(x)), tensor); err == nil {
		t.Error("integers read as floats")
	}
}

// TestFaults: bad data is reported once, and the device goes on.
func TestFaults(t *testing.T) {
	be := gpu(t)
	c := newCall(t, be, "embedding")
	c.in(engine.Float32, 4, 8)
	ids := c.in(engine.Int32, 1, 3)
	c.out(engine.Float32, 3, 8)
	if err := be.Write(ids, []int32{1, 99, 2}); err != nil {
		t.Fatal(err)
	}
	c.bind()()
	if err := be.Sync(); !errors.Is(err, ErrData) || !strings.Contains(err.Error(), "token 99 at position 1") {
		t.Errorf("Sync = %v", err)
	}
	if err := be.Sync(); err != nil {
		t.Errorf("second Sync = %v", err)
	}
}

// TestAnyThread binds on a thread that has never met the device: Go moves goroutines
// between threads, and the driver keeps its context by thread.
func TestAnyThread(t *testing.T) {
	be := gpu(t)
	c := newCall(t, be, "grouped_matmul")
	c.in(engine.BFloat16, 128, 256)
	c.in(engine.BFloat16, 1, 128, 256)
	c.in(engine.Int32, 2)
	c.out(engine.BFloat16, 128, 128)
	k, _ := be.Kernel(c.call.Kernel)
	bound := make(chan error)
	go func() {
		runtime.LockOSThread() // and ends with it
		_, err := k.Bind(&c.call)
		bound <- err
	}()
	if err := <-bound; err != nil {
		t.Error(err)
	}
}

func TestOutOfMemory(t *testing.T) {
	be := gpu(t)
	if _, err := be.Alloc(1 << 45); !errors.Is(err, ErrOutOfMemory) || !strings.Contains(err.Error(), "MiB") {
		t.Errorf("Alloc = %v", err)
	}
}
