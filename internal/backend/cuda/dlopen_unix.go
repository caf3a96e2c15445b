//go:build linux && (amd64 || arm64)

package cuda

import "github.com/ebitengine/purego"

func dlopen(file string) (uintptr, error) {
	return purego.Dlopen(file, purego.RTLD_NOW|purego.RTLD_GLOBAL)
}

func dlsym(handle uintptr, name string) (uintptr, error) { return purego.Dlsym(handle, name) }

// syscall calls a C function of integers and pointers and returns its status.
// What the pointers point to escapes to the heap, which does not move.
//
//go:uintptrescapes
func syscall(fn uintptr, args ...uintptr) int32 {
	r, _, _ := purego.SyscallN(fn, args...)
	return int32(r)
}
