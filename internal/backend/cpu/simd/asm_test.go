package simd

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestAVX2NeedsNoMore: kernels for AVX2 touch no register that only AVX-512 has. The machine that runs the tests
// has both, so nothing else would tell.
func TestAVX2NeedsNoMore(t *testing.T) {
	t.Parallel()
	more := regexp.MustCompile(`\b(Z\d+|[XY](1[6-9]|2\d|3[01])|K[0-7])\b`)
	for _, file := range []string{"gemm_amd64.s", "vec_amd64.s", "rows_amd64.s"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		function, checked := "", 0
		for i, line := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(line, "TEXT ") {
				function = strings.Fields(line)[1]
				if strings.Contains(function, "AVX2") {
					checked++
				}
			}
			if strings.Contains(function, "AVX2") && more.MatchString(line) {
				t.Errorf("%s:%d: %s in %s", file, i+1, strings.TrimSpace(line), function)
			}
		}
		if checked == 0 {
			t.Errorf("%s has no kernels for AVX2", file)
		}
	}
}
