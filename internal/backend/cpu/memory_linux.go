package cpu

import (
	"math"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hostMemory is the memory that this process may have: the machine's, or less in a
// container.
func hostMemory() int64 {
	limit := int64(math.MaxInt64)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		limit = int64(uint64(info.Totalram) * uint64(info.Unit))
	}
	if text, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil { // "max" is no number
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			limit = min(limit, n)
		}
	}
	return limit
}

// hugePage is the size of a large page, and of the least memory that is worth one.
const hugePage = 2 << 20

// adviseHuge asks for large pages: kernels read operands down their columns, and the processor translates few small
// pages quickly. Where there are none, nothing changes.
func adviseHuge(m *memory) {
	first := uintptr(unsafe.Pointer(unsafe.SliceData(m.lines)))
	skip := int64(-first % hugePage)
	if size := (m.Bytes() - skip) / hugePage * hugePage; size > 0 {
		bytes := unsafe.Slice((*byte)(unsafe.Pointer(&m.lines[skip/64])), size)
		_ = unix.Madvise(bytes, unix.MADV_HUGEPAGE)
	}
}
