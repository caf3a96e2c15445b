package checkpoint

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

const (
	manifestName  = "manifest.json"
	indexName     = "index.json"
	stateName     = "state.json"
	quarantineDir = "quarantine"
	extension     = ".safetensors"
)

// Groups of tensors that share a file. Those of an expert have names of their own
// (see ExpertGroup), so that experts move between ranks as files.
const (
	GroupModel = "model"
	GroupOptim = "optim"
)

// ExpertGroup is the group of one expert: its weights and their optimiser state.
func ExpertGroup(layer, expert int) string { return fmt.Sprintf("expert-L%02d-E%03d", layer, expert) }

// fileOf is the file of a group that a process of size writes.
func fileOf(group string, rank, size int) string {
	if group == GroupModel || group == GroupOptim {
		return fmt.Sprintf("%s-r%04d-of-%04d%s", group, rank, size, extension)
	}
	return group + extension
}

var safeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

func stepDir(step int64) string { return fmt.Sprintf("step-%08d", step) }

// parseStep is the inverse of stepDir.
func parseStep(name string) (int64, bool) {
	digits, ok := strings.CutPrefix(name, "step-")
	if !ok {
		return 0, false
	}
	step, err := strconv.ParseInt(digits, 10, 64)
	return step, err == nil && step >= 0 && stepDir(step) == name
}

// A checkpoint that is being written, and one that is being deleted, have names
// that no reader looks at; what a crash left of them is cleaned up at Open.
func writingDir(step, generation int64) string {
	return fmt.Sprintf(".tmp-%s-g%d", stepDir(step), generation)
}

func deletingDir(step int64) string { return ".tmp-" + stepDir(step) + "-deleted" }

var temporary = regexp.MustCompile(`^\.tmp-(step-[0-9]{8,})-(?:g([0-9]+)|deleted)(?:\.cleared)?$`)

// isLeftover reports whether a directory may be removed by a process of this
// generation: exactly the names made above, and none of a later generation.
func isLeftover(name string, generation int64) bool {
	m := temporary.FindStringSubmatch(name)
	if m == nil {
		return false
	}
	if m[2] == "" {
		return true
	}
	g, err := strconv.ParseInt(m[2], 10, 64)
	return err == nil && g <= generation
}
