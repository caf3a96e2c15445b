package simd

import (
	"errors"
	"strings"
	"testing"
)

func TestSetLevel(t *testing.T) {
	before := Level()
	defer SetLevel(before)
	for _, name := range Levels() {
		if err := SetLevel(name); err != nil || Level() != name {
			t.Errorf("SetLevel(%q): level %q, error %v", name, Level(), err)
		}
	}
	err := SetLevel("sse9")
	if !errors.Is(err, ErrLevel) || !strings.Contains(err.Error(), "go") {
		t.Errorf("SetLevel(sse9) = %v, want ErrLevel with the choices", err)
	}
	if Level() != Levels()[len(Levels())-1] {
		t.Errorf("a refused level changed the level to %s", Level())
	}
}

func TestLevelFromEnv(t *testing.T) {
	t.Setenv(levelEnv, "go")
	if l, err := levelFromEnv(); l != levelGo || err != nil {
		t.Errorf("go: %v, %v", l, err)
	}
	t.Setenv(levelEnv, "sse9")
	if _, err := levelFromEnv(); !errors.Is(err, ErrLevel) || !strings.Contains(err.Error(), levelEnv) {
		t.Errorf("sse9: %v, want ErrLevel naming %s", err, levelEnv)
	}
}
