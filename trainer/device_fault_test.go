package trainer

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"unsafe"

	"jambalaya/internal/backend/cuda"
	"jambalaya/internal/cli"
)

// badStore is a kernel that writes where there is no memory.
const badStore = `.version 7.0
.target sm_80
.address_size 64
.visible .entry bad_store()
{
	.reg .b64 %a;
	.reg .b32 %v;
	mov.b64 %a, 16;
	mov.b32 %v, 1;
	st.global.b32 [%a], %v;
	ret;
}
` + "\x00"

// breakDevice makes the GPU fail for this process: a kernel beside those that train
// writes to a bad address, as a fault in one of them would.
func breakDevice() error {
	be, err := cuda.New(0)
	if err != nil {
		return err
	}
	queue, err := be.NewQueue() // of the context in which the run trains
	if err != nil {
		return err
	}
	var load, find, launch uintptr
	if _, err := cuda.Load("install the driver", map[string]*uintptr{"cuModuleLoadData": &load, "cuModuleGetFunction": &find, "cuLaunchKernel": &launch},
		"libcuda.so.1"); err != nil {
		return err
	}
	stream, leave := queue.Enter()
	defer leave()
	var module, function uintptr
	source, name := []byte(badStore), []byte("bad_store\x00")
	status := cuda.Call(load, uintptr(unsafe.Pointer(&module)), uintptr(unsafe.Pointer(&source[0])))
	if status == 0 {
		status = cuda.Call(find, uintptr(unsafe.Pointer(&function)), module, uintptr(unsafe.Pointer(&name[0])))
	}
	if status == 0 {
		status = cuda.Call(launch, function, 1, 1, 1, 1, 1, 1, 0, stream, 0, 0)
	}
	if status != 0 {
		return fmt.Errorf("the device cannot be broken: status %d", status)
	}
	return nil
}

// TestCUDADeviceFault: a GPU that fails in the middle of a run ends it with one line.
// The last checkpoint is whole, and the same command goes on from it to the same bits
// as a run without a fault.
func TestCUDADeviceFault(t *testing.T) {
	be, err := cuda.New(0)
	if errors.Is(err, cuda.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	be.Close()
	cache, whole, broken := t.TempDir(), t.TempDir(), t.TempDir()
	if out, err := runChild(t, whole, cache, ending{}); err != nil {
		t.Fatalf("uninterrupted run: %v\n%s", err, out)
	}
	for _, op := range []int{40, 55, 71} {
		out, err := runChild(t, broken, cache, ending{op: op, fault: true})
		var exit *exec.ExitError = err
		if exit == nil || exit.ExitCode() != cli.CodeFailure {
			t.Fatalf("fault at operation %d: %v\n%s", op, err, out)
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		last := lines[len(lines)-1]
		t.Logf("fault at operation %d: %s", op, last)
		if !strings.Contains(last, cuda.ErrDevice.Error()) || strings.Contains(out, "goroutine") {
			t.Errorf("fault at operation %d ends in\n%s", op, out)
		}
		weightsHash(t, broken)
	}
	if out, err := runChild(t, broken, cache, ending{}); err != nil {
		t.Fatalf("after the faults: %v\n%s", err, out)
	}
	compareRuns(t, whole, broken)
}
