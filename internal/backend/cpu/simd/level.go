package simd

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// level is an instruction set the kernels are written for. Higher levels contain the lower ones.
type level int

const (
	levelGo level = iota
	levelAVX2
	levelAVX512
)

// levelEnv chooses the level of a process: avx512, avx2 or go. Unset means the best the machine has.
const levelEnv = "JAMBALAYA_SIMD"

var levelNames = [...]string{levelGo: "go", levelAVX2: "avx2", levelAVX512: "avx512"}

// current is the level every kernel dispatches on. It is written at start-up and by SetLevel only.
var current, envErr = levelFromEnv()

func levelFromEnv() (level, error) {
	name, set := os.LookupEnv(levelEnv)
	if !set {
		return best(), nil
	}
	l, err := parseLevel(name)
	if err != nil {
		return best(), fmt.Errorf("%s: %w", levelEnv, err)
	}
	return l, nil
}

// EnvError reports a value of JAMBALAYA_SIMD that names no level this machine has. A backend returns it
// when it is opened, so that a run never measures another path than the one it was asked for.
func EnvError() error { return envErr }

// Level is the name of the level in use: "avx512", "avx2" or "go". Results differ between levels in the last
// bits, so it is recorded with checkpoints.
func Level() string { return levelNames[current] }

// Levels lists the levels this machine can run, best first.
func Levels() []string {
	names := slices.Clone(levelNames[:best()+1])
	slices.Reverse(names)
	return names
}

// SetLevel switches every kernel to the named level. It is for start-up and tests: no kernel may be running.
func SetLevel(name string) error {
	l, err := parseLevel(name)
	if err != nil {
		return err
	}
	current = l
	return nil
}

func parseLevel(name string) (level, error) {
	l := level(slices.Index(levelNames[:], name))
	if l < 0 || l > best() {
		return 0, fmt.Errorf("%w %q: choose one of %s", ErrLevel, name, strings.Join(Levels(), ", "))
	}
	return l, nil
}
