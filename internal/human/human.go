package human

import (
	"fmt"
	"math"
	"time"
)

// Count writes a number with three digits and the unit k, M, G or T: 12.3k.
func Count(x float64) string { return scaled(x, 1000, []string{"", "k", "M", "G", "T"}, "") }

// Bytes writes a size in bytes, KiB, MiB, GiB or TiB: 1.25 GiB.
func Bytes(n int64) string {
	return scaled(float64(n), 1024, []string{"bytes", "KiB", "MiB", "GiB", "TiB"}, " ")
}

func scaled(x, base float64, units []string, space string) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return fmt.Sprint(x)
	}
	i := 0
	for i+1 < len(units) && math.Abs(x) >= base*0.9995 {
		x /= base
		i++
	}
	digits := 0
	switch a := math.Abs(x); {
	case i == 0 && x == math.Trunc(x):
	case a < 9.995:
		digits = 2
	case a < 99.95:
		digits = 1
	}
	return fmt.Sprintf("%.*f%s%s", digits, x, space, units[i])
}

// Duration writes a time with its two largest units: 45s, 2m05s, 3h20m, 2d03h.
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Duration(-max(d, -math.MaxInt64))
	case d < 9950*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
}
