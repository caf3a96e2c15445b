package configs

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"jambalaya/internal/config"
)

// ErrUnknown marks the name of a preset that does not exist.
var ErrUnknown = errors.New("unknown preset")

const extension = ".yaml"

//go:embed *.yaml
var files embed.FS

// gridPrefix begins the names of the presets that are grids of runs.
const gridPrefix = "ablation_"

// Names returns the names of the presets of single runs in alphabetical order.
func Names() []string {
	return slices.DeleteFunc(all(), func(name string) bool { return strings.HasPrefix(name, gridPrefix) })
}

// Grids returns the names of the presets for cmd/ablate in alphabetical order.
func Grids() []string {
	return slices.DeleteFunc(all(), func(name string) bool { return !strings.HasPrefix(name, gridPrefix) })
}

func all() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(err) // the directory is part of the program
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), extension))
	}
	return names
}

// Load returns the text of a preset of a run, or of the file at a path: what has a
// slash or ends in .yaml or .yml is a path.
func Load(nameOrPath string) (config.File, error) { return load(nameOrPath, Names()) }

// LoadGrid is Load for the presets of grids.
func LoadGrid(nameOrPath string) (config.File, error) { return load(nameOrPath, Grids()) }

func load(nameOrPath string, names []string) (config.File, error) {
	ext := filepath.Ext(nameOrPath)
	if strings.ContainsRune(filepath.ToSlash(nameOrPath), '/') || ext == extension || ext == ".yml" {
		return loadFile(nameOrPath)
	}
	text, err := files.ReadFile(nameOrPath + extension)
	if err != nil || !slices.Contains(names, nameOrPath) {
		advice := ""
		if near := config.Nearest(nameOrPath, names); near != "" {
			advice = fmt.Sprintf("did you mean %s? ", near)
		}
		return config.File{}, fmt.Errorf("%w %q: %sthere are %s; a file's name has a slash or ends in %s",
			ErrUnknown, nameOrPath, advice, strings.Join(names, ", "), extension)
	}
	return config.File{Name: nameOrPath + extension, Text: text}, nil
}

func loadFile(path string) (config.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return config.File{}, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return config.File{}, fmt.Errorf("configuration: %w", err)
	}
	if info.Size() > config.MaxBytes {
		return config.File{}, fmt.Errorf("configuration: %s has %d bytes; a configuration has at most %d", path, info.Size(), config.MaxBytes)
	}
	// One byte more than allowed, so that the decoder refuses what is too long.
	text, err := io.ReadAll(io.LimitReader(f, config.MaxBytes+1))
	if err != nil {
		return config.File{}, fmt.Errorf("configuration: %w", err)
	}
	return config.File{Name: path, Text: text}, nil
}
