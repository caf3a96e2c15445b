package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// saveCalls are the calls by which a process changes files. All of them have a
// descriptor as their first argument, because package vfs works below an os.Root.
var saveCalls = map[uint64]string{
	unix.SYS_OPENAT: "openat", unix.SYS_MKDIRAT: "mkdirat", unix.SYS_UNLINKAT: "unlinkat",
	unix.SYS_RENAMEAT: "renameat", unix.SYS_RENAMEAT2: "renameat2",
	unix.SYS_WRITE: "write", unix.SYS_PWRITE64: "pwrite64", unix.SYS_FTRUNCATE: "ftruncate",
	unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fdatasync",
}

// tracer follows all threads of a process from call to call.
type tracer struct {
	pid    int
	inside map[int]bool // by thread: between the entry and the exit of a call
	fail   map[int]bool // by thread: the call it is in is to fail
	count  int
	decide func(saveCall) act
}

// traced runs a command and asks about every call that changes checkpoints. It
// returns the exit code, -1 if a signal ended the command.
func traced(dir, output, binary string, args []string, decide func(saveCall) act) (code int, err error) {
	runtime.LockOSThread() // all requests must come from the thread that started the command
	defer runtime.UnlockOSThread()
	out, err := os.Create(output)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	pid, err := syscall.ForkExec(binary, append([]string{binary}, args...), &syscall.ProcAttr{
		Dir: dir, Env: os.Environ(), Files: []uintptr{0, out.Fd(), out.Fd()},
		Sys: &syscall.SysProcAttr{Ptrace: true, Setpgid: true},
	})
	if errors.Is(err, syscall.EPERM) {
		return 0, errSkip{"tracing system calls is not permitted here"}
	}
	if err != nil {
		return 0, err
	}
	t := &tracer{pid: pid, inside: map[int]bool{}, fail: map[int]bool{}, decide: decide}
	return t.follow()
}

func (t *tracer) follow() (code int, err error) {
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(t.pid, &status, unix.WALL, nil); err != nil || !status.Stopped() {
		return 0, fmt.Errorf("trace: the command does not stop at its start: %v, %v", status, err)
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL
	if err := syscall.PtraceSetOptions(t.pid, options); err != nil {
		return 0, fmt.Errorf("trace: %w", err)
	}
	t.resume(t.pid, 0)
	for {
		thread, err := syscall.Wait4(-t.pid, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("trace: %w", err)
		case status.Exited() || status.Signaled():
			if thread == t.pid {
				return status.ExitStatus(), nil
			}
		case status.Stopped():
			t.stopped(thread, status.StopSignal())
		}
	}
}

// resume lets a thread go on to its next call. A thread that was killed meanwhile
// cannot, and is waited for as all others.
func (t *tracer) resume(thread int, s syscall.Signal) { _ = syscall.PtraceSyscall(thread, int(s)) }

func (t *tracer) stopped(thread int, s syscall.Signal) {
	switch s {
	case syscall.SIGTRAP | 0x80: // a call
		if t.inside[thread] = !t.inside[thread]; t.inside[thread] {
			t.enter(thread)
		} else {
			t.leave(thread)
		}
		t.resume(thread, 0)
	case syscall.SIGTRAP, syscall.SIGSTOP: // a new thread, from either side
		t.resume(thread, 0)
	default:
		t.resume(thread, s)
	}
}

func (t *tracer) enter(thread int) {
	var regs syscall.PtraceRegs
	if syscall.PtraceGetRegs(thread, &regs) != nil {
		return
	}
	name, ok := saveCalls[regs.Orig_rax]
	if !ok || name == "openat" && regs.Rdx&(unix.O_CREAT|unix.O_WRONLY|unix.O_RDWR) == 0 {
		return
	}
	path, err := os.Readlink(filepath.Join("/proc", fmt.Sprint(t.pid), "fd", fmt.Sprint(int32(regs.Rdi))))
	if err != nil || !ofCheckpoints(path) {
		return
	}
	call := saveCall{n: t.count, path: path}
	t.count++
	switch t.decide(call) {
	case killBefore:
		_ = syscall.Kill(t.pid, syscall.SIGKILL)
	case failWithEIO:
		regs.Orig_rax = ^uint64(0) // no call
		t.fail[thread] = syscall.PtraceSetRegs(thread, &regs) == nil
	}
}

// ofCheckpoints says whether a path is one of a run's checkpoints.
func ofCheckpoints(path string) bool { return strings.Contains(path+"/", "/"+checkpointDir+"/") }

// leave gives a call that is to fail its result.
func (t *tracer) leave(thread int) {
	if !t.fail[thread] {
		return
	}
	delete(t.fail, thread)
	var regs syscall.PtraceRegs
	if syscall.PtraceGetRegs(thread, &regs) == nil {
		eio := int64(syscall.EIO)
		regs.Rax = uint64(-eio)
		_ = syscall.PtraceSetRegs(thread, &regs) // fails if the process was killed
	}
}
