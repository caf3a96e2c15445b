package cuda

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// LibraryPath is the environment variable that names more directories with
// NVIDIA's libraries, separated as in PATH. They come first in the search.
const LibraryPath = "JAMBALAYA_CUDA_PATH"

// library is a shared library that has been loaded.
type library struct {
	name   string
	handle uintptr
}

// openLibrary loads the first of the names that can be found, newest first.
func openLibrary(advice string, names ...string) (library, error) {
	var first error
	for _, name := range names {
		for _, file := range append([]string{name}, libraryFiles(name)...) {
			handle, err := dlopen(file)
			if err == nil {
				return library{name: name, handle: handle}, nil
			}
			if first == nil {
				first = err
			}
		}
	}
	return library{}, fmt.Errorf("cuda: cannot load %s (%v): %s, or name its directory in %s: %w",
		strings.Join(names, " or "), first, advice, LibraryPath, ErrUnavailable)
}

// libraryFiles are the places, besides those that the system's loader knows, in
// which toolkits and Python packages leave a library.
func libraryFiles(name string) []string {
	home, _ := os.UserHomeDir()
	var files []string
	for _, dir := range filepath.SplitList(os.Getenv(LibraryPath)) {
		files = append(files, filepath.Join(dir, name))
	}
	for _, pattern := range []string{
		filepath.Join(os.Getenv("CUDA_HOME"), "lib64"),
		"/usr/local/cuda*/lib64",
		"/usr/local/nvidia/lib64",
		"/usr/lib/x86_64-linux-gnu",
		"/usr/lib/aarch64-linux-gnu",
		"/usr/lib/wsl/lib",
		filepath.Join(os.Getenv("VIRTUAL_ENV"), pythonLibraries),
		filepath.Join(home, ".venv", pythonLibraries),
		filepath.Join(home, ".local", pythonLibraries),
		filepath.Join("/opt/*/.venv", pythonLibraries),
		filepath.Join("/opt/venv", pythonLibraries),
		filepath.Join("/usr/local", pythonLibraries),
		"/usr/local/lib/python3*/dist-packages/nvidia/*/lib",
	} {
		found, err := filepath.Glob(filepath.Join(pattern, name))
		if err == nil {
			files = append(files, found...)
		}
	}
	return files
}

// pythonLibraries is where wheels put NVIDIA's libraries, below an environment.
const pythonLibraries = "lib/python3*/site-packages/nvidia/*/lib"

// bind looks functions up by name.
func (l library) bind(functions map[string]*uintptr) error {
	for name, at := range functions {
		address, err := dlsym(l.handle, name)
		if err != nil {
			return fmt.Errorf("cuda: %s has no function %s: install a newer version: %w", l.name, name, ErrUnavailable)
		}
		*at = address
	}
	return nil
}
