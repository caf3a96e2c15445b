package source

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// GoSource is the name of the source that needs no download.
const GoSource = "go-source"

// OpenGo lists the source text of the Go distribution.
func OpenGo() (*Source, error) {
	root, err := goRoot()
	if err != nil {
		return nil, err
	}
	return openGo(root)
}

// goRoot finds the Go distribution: a binary built with -trimpath does not know.
func goRoot() (string, error) {
	if root := os.Getenv("GOROOT"); root != "" {
		return root, nil
	}
	out, err := exec.Command("go", "env", "GOROOT").Output()
	root := strings.TrimSpace(string(out))
	if err != nil || root == "" {
		return "", fmt.Errorf("%w: %s needs an installation of Go, and go env GOROOT gave none: install Go, set GOROOT, or name other text",
			ErrInput, GoSource)
	}
	return root, nil
}

func openGo(root string) (*Source, error) {
	src, err := filepath.EvalSymlinks(filepath.Join(root, "src"))
	if err != nil {
		return nil, fmt.Errorf("%w: the Go distribution in %s has no source text: %w", ErrInput, root, err)
	}
	s := &Source{name: GoSource, root: src, opts: Options{Ext: ".go"}, isGo: true}
	if err := s.list("testdata"); err != nil {
		return nil, err
	}
	if len(s.files) == 0 {
		return nil, fmt.Errorf("%w: the Go distribution in %s has no source text", ErrInput, root)
	}
	return s, nil
}

// chooseGo reads all files to leave out what nobody wrote and what is there twice.
func (s *Source) chooseGo() ([]file, error) {
	var files []file
	var buffer []byte
	seen := map[[32]byte]bool{}
	for _, f := range s.files {
		var err error
		if buffer, err = appendFile(buffer[:0], s.full(f)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInput, err)
		}
		sum := sha256.Sum256(buffer)
		if isGenerated(buffer) || seen[sum] {
			continue
		}
		seen[sum] = true
		files = append(files, f)
	}
	return files, nil
}
