package human

import (
	"math"
	"testing"
	"time"
)

func TestCount(t *testing.T) {
	t.Parallel()
	for x, want := range map[float64]string{
		0: "0", 7: "7", 1.5: "1.50", 12.34: "12.3", 999: "999", 999.6: "1.00k", 1000: "1.00k", 12345: "12.3k", 999499: "999k",
		999600: "1.00M", 51570323328: "51.6G", 1e15: "1000T", -1234: "-1.23k", math.Inf(1): "+Inf",
	} {
		if got := Count(x); got != want {
			t.Errorf("Count(%v) = %q, want %q", x, got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 bytes", 1023: "1023 bytes", 1024: "1.00 KiB", 1536: "1.50 KiB", 1 << 30: "1.00 GiB", 90_000_000: "85.8 MiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0.0s", 1540 * time.Millisecond: "1.5s", 9949 * time.Millisecond: "9.9s", 9960 * time.Millisecond: "10s", 59700 * time.Millisecond: "1m00s",
		125 * time.Second: "2m05s", 200 * time.Minute: "3h20m", 51 * time.Hour: "2d03h", -5 * time.Second: "-5.0s", math.MinInt64: "-106751d23h",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}
