package bench

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Host is what a figure depends on besides the program.
type Host struct {
	CPU       string  `json:"cpu"`
	Cores     int     `json:"cores"`
	Device    string  `json:"device"` // cpu/avx512
	Threads   int     `json:"threads"`
	LoadStart float64 `json:"load_start"` // runnable processes, a mean over the last minute
	LoadEnd   float64 `json:"load_end"`
}

func newHost(device string, threads int) Host {
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	return Host{CPU: cpuModel(), Cores: runtime.NumCPU(), Device: device, Threads: threads, LoadStart: loadAverage()}
}

func (h Host) String() string {
	return fmt.Sprintf("%s, %d of %d cores of %s, load %.2f at the start, %.2f at the end", h.Device, h.Threads, h.Cores, h.CPU,
		h.LoadStart, h.LoadEnd)
}

// cpuModel is the processor's name, the architecture where the system has none.
func cpuModel() string {
	if name, ok := procField("/proc/cpuinfo", "model name"); ok {
		return name
	}
	return runtime.GOARCH
}

// loadAverage is that of the last minute, 0 if unknown.
func loadAverage() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}

// procField is the value of the first line "key : value" of a file.
func procField(file, key string) (string, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}
