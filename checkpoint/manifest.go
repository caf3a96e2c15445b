package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"time"
)

// FormatVersion is the version of the format that this program writes and reads.
const FormatVersion = 1

const maxManifest = 64 << 20

// Manifest lists what a checkpoint consists of. It is written last: a directory
// with a valid manifest is a whole checkpoint.
type Manifest struct {
	Format     int            `json:"format"`
	Run        string         `json:"run"`        // the run's identity
	Step       int64          `json:"step"`       // optimiser steps taken
	Parent     int64          `json:"parent"`     // step of the checkpoint before it in the run's history, -1 if none
	Generation int64          `json:"generation"` // which start of the run wrote it; grows
	Term       int64          `json:"term"`       // of the writer's lease, 0 if it has none
	Created    time.Time      `json:"created"`
	Mesh       map[string]int `json:"mesh"` // size of each axis
	Files      []FileSum      `json:"files"`
	// SHA256 is the hash of the manifest itself, encoded with this field empty.
	SHA256 string `json:"sha256"`
}

// FileSum is a file of a checkpoint.
type FileSum struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Size is the number of bytes of all files but the manifest.
func (m *Manifest) Size() int64 {
	total := int64(0)
	for _, f := range m.Files {
		total += f.Size
	}
	return total
}

// sumEnd is what follows the manifest's own hash in the file.
const sumEnd = "\"\n}\n"

// encode writes the manifest with its own hash.
func (m *Manifest) encode() ([]byte, error) {
	unsealed := *m
	unsealed.SHA256 = ""
	text, err := encodeJSON(unsealed)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s%x%s", text[:len(text)-len(sumEnd)], sha256.Sum256(text), sumEnd), nil
}

// sealed reports whether a manifest is byte for byte what encode wrote: the hash
// is of the text, not of its meaning, so that it also finds the changes that JSON
// would forgive (the case of a key, a space).
func sealed(text []byte) bool {
	body, ok := bytes.CutSuffix(text, []byte(sumEnd))
	if !ok || len(body) < 2*sha256.Size {
		return false
	}
	body, sum := body[:len(body)-2*sha256.Size], body[len(body)-2*sha256.Size:]
	hash := sha256.New()
	hash.Write(body)
	hash.Write([]byte(sumEnd))
	return hex.EncodeToString(hash.Sum(nil)) == string(sum)
}

func decodeManifest(text []byte) (*Manifest, error) {
	m := &Manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, corrupt("%s: %v", manifestName, err)
	}
	// A later version may be sealed in another way, so this comes first.
	if m.Format > FormatVersion {
		return nil, fmt.Errorf("%w %d, this program reads %d: use the one that wrote it", ErrFormat, m.Format, FormatVersion)
	}
	if !sealed(text) {
		return nil, corrupt("the checksum of %s does not match", manifestName)
	}
	return m, m.check()
}

var hexSum = regexp.MustCompile(`^[0-9a-f]{64}$`)

// check holds a manifest to its own rules; names that lead elsewhere end here.
func (m *Manifest) check() error {
	seen := map[string]bool{manifestName: true}
	for _, f := range m.Files {
		switch {
		case !safeName.MatchString(f.Name):
			return corrupt("%s: file name %q", manifestName, f.Name)
		case seen[f.Name]:
			return corrupt("%s: file %q is there twice", manifestName, f.Name)
		case f.Size < 0 || !hexSum.MatchString(f.SHA256):
			return corrupt("%s: size or checksum of %q", manifestName, f.Name)
		case f.Name == indexName && f.Size > maxIndex, f.Name == stateName && f.Size > maxState:
			return corrupt("%s: %q has %d bytes, more than are read", manifestName, f.Name, f.Size)
		}
		seen[f.Name] = true
	}
	if !seen[indexName] || !seen[stateName] {
		return corrupt("%s: %s and %s must be listed", manifestName, indexName, stateName)
	}
	if m.Format < 1 || m.Step < 0 || m.Generation < 0 {
		return corrupt("%s: format %d, step %d, generation %d", manifestName, m.Format, m.Step, m.Generation)
	}
	return nil
}

// encodeJSON is how all JSON files of a checkpoint are written.
func encodeJSON(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}
