package sealed

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

type value struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	file, sum, err := Marshal(value{"x", 3})
	if err != nil || !json.Valid(file) {
		t.Fatalf("%s: %v", file, err)
	}
	var back value
	if got, err := Unmarshal(file, &back); err != nil || got != sum || back != (value{"x", 3}) {
		t.Fatalf("got %v, %s, %v", back, got, err)
	}
	for i := range file {
		for bit := range 8 {
			bad := slices.Clone(file)
			bad[i] ^= 1 << bit
			if _, err := Unmarshal(bad, &back); !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d, bit %d: %v", i, bit, err)
			}
		}
		if _, err := Unmarshal(file[:i], &back); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func TestStrict(t *testing.T) {
	t.Parallel()
	for _, v := range []any{map[string]int{"other": 1}, "text"} {
		file, _, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Unmarshal(file, &value{}); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v", v, err)
		}
	}
}
