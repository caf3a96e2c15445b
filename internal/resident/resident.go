package resident

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// Peak is the most memory that the process has had resident, in bytes, since its
// start or the last Reset that worked; 0 if that is unknown.
func Peak() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	return parsePeak(string(text))
}

func parsePeak(status string) int64 {
	for line := range strings.Lines(status) {
		value, ok := strings.CutPrefix(line, "VmHWM:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return 0
		}
		return kib << 10
	}
	return 0
}

// Reset gives memory that is free back to the system and starts Peak anew. It
// reports whether that worked: if not, Peak goes on from where it was.
func Reset() bool {
	debug.FreeOSMemory()
	return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) == nil
}
