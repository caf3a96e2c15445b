package engine

import (
	"fmt"
	"strings"
	"testing"
)

func TestAttrs(t *testing.T) {
	t.Parallel()
	a := Attrs{{"rows", 1 << 40}, {"eps", 1e-5}, {"off", 0}}
	if a.Int("rows") != 1<<40 || a.Float("eps") != 1e-5 || a.Bool("off") || a.Bool("absent") || !a.Bool("eps") {
		t.Errorf("%v is read wrongly", a)
	}
	if got, want := a.String(), "rows=1.099511627776e+12 eps=1e-05 off=0"; got != want {
		t.Errorf("String is %q, want %q", got, want)
	}
	defer func() {
		if r := recover(); r == nil || !strings.Contains(r.(string), `no attribute "absent"`) {
			t.Errorf("an attribute that is not there: %v", r)
		}
	}()
	a.Int("absent")
}

func TestParseRecompute(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Recompute{"": RecomputeNone, "none": RecomputeNone, "cheap": RecomputeCheap, "layer": RecomputeLayer} {
		if got, err := ParseRecompute(text); err != nil || got != want {
			t.Errorf("%q is %d, %v, want %d", text, got, err, want)
		}
	}
	if _, err := ParseRecompute("all"); err == nil || !strings.Contains(err.Error(), "want none, cheap or layer") {
		t.Errorf("a mode that does not exist: %v", err)
	}
}

func TestDTypes(t *testing.T) {
	t.Parallel()
	for d, want := range map[DType]string{Float32: "float32[2 3], 24 bytes", BFloat16: "bfloat16[2 3], 12 bytes", Int32: "int32[2 3], 24 bytes"} {
		x := &Tensor{Shape: []int{2, 3}, DType: d}
		if got := fmt.Sprintf("%v, %d bytes", x, x.Bytes()); got != want || x.Size() != 6 || x.Dim(-1) != 3 || x.Dim(0) != 2 {
			t.Errorf("%s of extents %d, %d; want %s", got, x.Dim(0), x.Dim(-1), want)
		}
	}
}
