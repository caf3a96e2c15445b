package launch

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
)

// version identifies the program: workers that differ in it do not train together. A build
// of a commit is known by it, wherever it was made; any other by its file.
func version() string {
	text, revision, modified := runtime.Version()+" "+runtime.GOARCH, "", false
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				revision = s.Value
			case "vcs.modified":
				modified = s.Value == "true"
			}
		}
	}
	if revision != "" {
		text += " " + revision
	}
	if revision != "" && !modified {
		return text
	}
	if modified {
		text += " modified"
	}
	return text + " " + fileHash()
}

// fileHash tells the program's file from others.
func fileHash() string {
	f, err := openExecutable()
	if err != nil {
		return "of an unknown file"
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "of an unknown file"
	}
	return fmt.Sprintf("sha256:%x", h.Sum(nil)[:6])
}

// openExecutable opens the file of this process: on Linux also one that has been replaced
// since.
func openExecutable() (*os.File, error) {
	if f, err := os.Open("/proc/self/exe"); err == nil {
		return f, nil
	}
	name, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return os.Open(name)
}
