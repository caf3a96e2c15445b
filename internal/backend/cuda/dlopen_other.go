//go:build !linux || !(amd64 || arm64)

package cuda

import (
	"fmt"
	"runtime"
)

func dlopen(string) (uintptr, error) {
	return 0, fmt.Errorf("not supported on %s/%s", runtime.GOOS, runtime.GOARCH)
}

func dlsym(uintptr, string) (uintptr, error) { return dlopen("") }

func syscall(uintptr, ...uintptr) int32 { panic("cuda: no library could have been loaded") }
