package cuda

import (
	"fmt"
	"strings"
	"unsafe"
)

// compiler is NVRTC, which compiles CUDA C++ for the device at hand.
type compiler struct {
	library
	arch                                                              string
	major, minor                                                      int32
	versionOf, create, destroy, compile, codeSize, code, logSize, log uintptr
}

func openCompiler(arch string) (*compiler, error) {
	lib, err := openLibrary("install the CUDA toolkit 12 or 13 (package cuda-nvrtc)", "libnvrtc.so.13", "libnvrtc.so.12")
	if err != nil {
		return nil, err
	}
	c := &compiler{library: lib, arch: arch}
	err = lib.bind(map[string]*uintptr{
		"nvrtcVersion": &c.versionOf, "nvrtcCreateProgram": &c.create, "nvrtcDestroyProgram": &c.destroy, "nvrtcCompileProgram": &c.compile,
		"nvrtcGetCUBINSize": &c.codeSize, "nvrtcGetCUBIN": &c.code, "nvrtcGetProgramLogSize": &c.logSize, "nvrtcGetProgramLog": &c.log,
	})
	if err != nil {
		return nil, err
	}
	if status := syscall(c.versionOf, uintptr(unsafe.Pointer(&c.major)), uintptr(unsafe.Pointer(&c.minor))); status != 0 {
		return nil, fmt.Errorf("cuda: %s does not answer: status %d: %w", c.name, status, ErrUnavailable)
	}
	return c, nil
}

// options of every compilation. They are part of the key of the cache.
func (c *compiler) options() []string {
	return []string{"--gpu-architecture=" + c.arch, "--std=c++17", "-default-device"}
}

// version identifies the compiler in the cache and in checkpoints.
func (c *compiler) version() string { return fmt.Sprintf("%d.%d", c.major, c.minor) }

// build compiles a source and returns machine code, and what the compiler remarked.
func (c *compiler) build(name, source string) (code []byte, remarks string, err error) {
	var options [][]byte
	for _, o := range c.options() {
		options = append(options, append([]byte(o), 0))
	}
	pointers := make([]*byte, len(options))
	for i, o := range options {
		pointers[i] = &o[0]
	}
	text, file := append([]byte(source), 0), append([]byte(name), 0)
	var program uintptr
	status := syscall(c.create, uintptr(unsafe.Pointer(&program)), uintptr(unsafe.Pointer(&text[0])), uintptr(unsafe.Pointer(&file[0])), 0, 0, 0)
	if status != 0 {
		return nil, "", fmt.Errorf("cuda: compile %s: status %d of %s: %w", name, status, c.name, ErrDevice)
	}
	defer syscall(c.destroy, uintptr(unsafe.Pointer(&program)))
	status = syscall(c.compile, program, uintptr(len(pointers)), uintptr(unsafe.Pointer(&pointers[0])))
	remarks = strings.TrimRight(string(c.fetch(program, c.logSize, c.log)), "\n\x00")
	if status != 0 {
		return nil, remarks, fmt.Errorf("cuda: compile %s with %s for %s: %w\n%s", name, c.name, c.arch, ErrDevice, remarks)
	}
	if code = c.fetch(program, c.codeSize, c.code); len(code) == 0 {
		return nil, remarks, fmt.Errorf("cuda: compile %s: %s made no code for %s: %w", name, c.name, c.arch, ErrDevice)
	}
	return code, remarks, nil
}

// fetch reads what a pair of functions gives: a size, then that many bytes.
func (c *compiler) fetch(program, size, get uintptr) []byte {
	var n uint64
	if syscall(size, program, uintptr(unsafe.Pointer(&n))) != 0 || n == 0 {
		return nil
	}
	data := make([]byte, n)
	if syscall(get, program, uintptr(unsafe.Pointer(&data[0]))) != 0 {
		return nil
	}
	return data
}
