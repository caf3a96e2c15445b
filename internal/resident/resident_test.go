package resident

import (
	"runtime"
	"testing"
)

// TestPeak counts what is in use at a time, and forgets it when told to.
func TestPeak(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux counts")
	}
	const size = 64 << 20
	if !Reset() {
		t.Skip("this system does not let a process forget its peak")
	}
	before := Peak()
	held := make([]byte, size)
	for i := 0; i < len(held); i += 4096 {
		held[i] = 1
	}
	with := Peak()
	runtime.KeepAlive(held)
	held = nil
	Reset()
	after := Peak()
	if before == 0 || with-before < size*9/10 || with-after < size*9/10 {
		t.Errorf("%d MiB before, %d with %d more, %d after", before>>20, with>>20, size>>20, after>>20)
	}
}

func TestParsePeak(t *testing.T) {
	for _, c := range []struct {
		status string
		want   int64
	}{
		{"Name:\tx\nVmHWM:\t  1234 kB\nVmRSS:\t 1 kB\n", 1234 << 10},
		{"VmRSS:\t 1 kB\n", 0}, {"VmHWM:\t many kB\n", 0}, {"", 0},
	} {
		if got := parsePeak(c.status); got != c.want {
			t.Errorf("%q: %d", c.status, got)
		}
	}
}
