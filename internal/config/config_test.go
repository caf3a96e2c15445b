package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type source struct {
	Path   string  `yaml:"path"`
	Weight float64 `yaml:"weight"`
}

type inner struct {
	Steps   int        `yaml:"steps"`
	Small   int8       `yaml:"small"`
	Seed    uint64     `yaml:"seed"`
	Rate    float64    `yaml:"rate"`
	Single  float32    `yaml:"single"`
	Betas   [2]float64 `yaml:"betas"`
	Name    string     `yaml:"name"`
	Fast    bool       `yaml:"fast"`
	Pad     *int       `yaml:"pad_token_id"`
	Prompts []string   `yaml:"prompts"`
	Sources []source   `yaml:"sources"`
	Derived int        `yaml:"-"`
}

type outer struct {
	Trainer inner  `yaml:"trainer"`
	Other   source `yaml:"other"`
}

func load(text string, sets ...string) (outer, Origins, error) {
	cfg := outer{Trainer: inner{Steps: 7, Betas: [2]float64{0.9, 0.95}, Name: "default"}}
	origins, err := Load(&cfg, File{"t.yaml", []byte(text)}, sets)
	return cfg, origins, err
}

func TestLoad(t *testing.T) {
	t.Parallel()
	cfg, origins, err := load(`
# a comment
trainer:
  small: -128
  seed: 18446744073709551615
  rate: 3e-4
  single: 0.1
  betas: [1, 5e-1]
  fast: true
  pad_token_id: 3
  prompts: ["func main() {", 'no', a b]
  sources:
    - path: x/y
      weight: 2
    - {path: z, weight: 0.5}
`, "trainer.small=5", "trainer.pad_token_id=null", "trainer.prompts=[x, \"1\"]", "other={path: p}", "trainer.small=6", FlagFor("--fast", false, "trainer.fast"))
	if err != nil {
		t.Fatal(err)
	}
	want := outer{Trainer: inner{Steps: 7, Small: 6, Seed: 18446744073709551615, Rate: 3e-4, Single: 0.1, Betas: [2]float64{1, 0.5},
		Name: "default", Prompts: []string{"x", "1"}, Sources: []source{{"x/y", 2}, {"z", 0.5}}}, Other: source{Path: "p"}}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got  %+v\nwant %+v", cfg, want)
	}
	for key, where := range map[string]string{
		"trainer.steps": "default", "trainer.fast": "--fast false", "trainer.rate": "t.yaml:6:9", "trainer.small": "--set trainer.small=6",
		"trainer.sources": "t.yaml:13:5", "other.path": "--set other={path: p}", "trainer.pad_token_id": "--set trainer.pad_token_id=null",
	} {
		if got := origins.Of(key); got != where {
			t.Errorf("origin of %s is %q, want %q", key, got, where)
		}
	}
}

func TestEmptyTextKeepsDefaults(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\n# nothing\n", "\xef\xbb\xbf"} {
		cfg, origins, err := load(text)
		if err != nil || cfg.Trainer.Steps != 7 || len(origins) != 0 {
			t.Errorf("%q: %+v, %v, %v", text, cfg, origins, err)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"trainer:\n  stpes: 5", "t.yaml:2:3: trainer.stpes: unknown key; did you mean trainer.steps?"},
		{"trainer:\n  padTokenId: 5", "t.yaml:2:3: trainer.padTokenId: unknown key; did you mean trainer.pad_token_id?"},
		{"steps: 5", "t.yaml:1:1: steps: unknown key; did you mean trainer.steps?"},
		{"zzz: 5", "t.yaml:1:1: zzz: unknown key; keys here are trainer, other"},
		{"trainer:\n  steps: 5\n  steps: 6", "t.yaml:3:3: trainer.steps: is given twice, first in line 2"},
		{"trainer: {steps: 010}", "t.yaml:1:18: trainer.steps: 010 is 8-based to some readers of YAML; write it without the leading zero"},
		{"trainer: {steps: 0x10}", `t.yaml:1:18: trainer.steps: "0x10" is not a whole number, which is written in plain decimal digits`},
		{"trainer: {steps: 1_000}", `"1_000" is not a whole number`},
		{"trainer: {steps: 1e3}", `"1e3" is not a whole number`},
		{"trainer: {steps: 1.0}", `"1.0" is not a whole number`},
		{"trainer: {steps: many}", `"many" is not a whole number`},
		{"trainer: {steps: '5'}", `trainer.steps: is the text "5", not a whole number`},
		{"trainer: {steps: [5]}", "trainer.steps: is a list, not a whole number"},
		{"trainer: {steps: 9223372036854775808}", "9223372036854775808 is out of range for a whole number"},
		{"trainer: {small: 128}", "128 is out of range for a whole number of 8 bits"},
		{"trainer: {seed: -1}", "-1 is out of range for a whole number of at least 0"},
		{"trainer: {rate: .5}", `".5" is not a number; write it like 3, 0.5 or 3e-4`},
		{"trainer: {rate: .nan}", `".nan" is not a number`},
		{"trainer: {rate: 1e400}", "1e400 is out of range"},
		{"trainer: {rate: 1e-400}", "1e-400 is out of range"},
		{"trainer: {single: 1e-60}", "1e-60 is out of range"},
		{"trainer: {betas: [0.9]}", "t.yaml:1:18: trainer.betas: has 1 elements, not 2"},
		{"trainer: {betas: [0.9, x]}", `t.yaml:1:24: trainer.betas[1]: "x" is not a number`},
		{"trainer: {betas: 0.9}", `trainer.betas: is "0.9", not a list`},
		{"trainer: {name: no}", `t.yaml:1:17: trainer.name: no is not a word to all readers of YAML; to mean the text, quote it: "no"`},
		{"trainer: {name: 1:30}", "quote it"},
		{"trainer: {name: 2026-01-02}", "quote it"},
		{"trainer: {fast: yes}", `trainer.fast: "yes" is neither true nor false`},
		{"trainer: {fast: True}", `trainer.fast: "True" is neither true nor false`},
		{"trainer: {steps: }", "t.yaml:1:18: trainer.steps: needs a value; delete the line to keep the default"},
		{"trainer:\n", "t.yaml:1:9: trainer: needs a value"},
		{"trainer: {name: ~}", "trainer.name: needs a value"},
		{"trainer: 5", `t.yaml:1:10: trainer: is "5", not a section with the keys steps, small`},
		{strings.Repeat("text ", 100), `text text "..., not a section with the keys trainer, other`},
		{"[1]", "t.yaml:1:1: is a list, not a section with the keys trainer, other"},
		{"trainer: {[1]: 5}", "t.yaml:1:11: trainer: has a list as a key"},
		{"trainer: {sources: [{path: x, wieght: 1}]}", "t.yaml:1:31: trainer.sources[0].wieght: unknown key; did you mean trainer.sources[0].weight?"},
		{"trainer: &a {steps: 5}", "t.yaml:1:10: anchors (&name) are not supported; write the value out"},
		{"trainer: {name: *a}", "t.yaml: is not YAML: unknown anchor 'a' referenced"},
		{"trainer: {name: !!str 5}", "t.yaml:1:17: tags (!!str) are not supported"},
		{"trainer: {steps: 5}\n---\nother: {path: x}", "t.yaml: has more than one document"},
		{"trainer:\n\tsteps: 5", "t.yaml:2: is not YAML: found character that cannot start any token"},
		{"trainer: {steps: 5", "is not YAML"},
		{"a: \xff", "is not YAML"},
		{strings.Repeat("[", 5000), "is not YAML"},
		{strings.Repeat("[", 50) + strings.Repeat("]", 50), "is nested more than 32 deep"},
		{strings.Repeat("#", MaxBytes+1), "t.yaml: has 1048577 bytes; a configuration has at most 1048576"},
	} {
		_, _, err := load(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrInvalid) {
			t.Errorf("%.60q: got %v, want %s", c.text, err, c.want)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60q: got more than one fault: %v", c.text, err)
		}
	}
}

func TestAssignmentFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ set, want string }{
		{"trainer.stpes=5", "--set trainer.stpes=5: trainer.stpes: unknown key; did you mean trainer.steps?"},
		{"steps=5", "--set steps=5: steps: unknown key; did you mean trainer.steps?"},
		{"trainer.steps", "--set trainer.steps: is not of the form key=value"},
		{"=5", "--set =5: is not of the form key=value"},
		{"trainer.steps=", "--set trainer.steps=: trainer.steps: needs a value"},
		{"trainer.steps=[", "--set trainer.steps=[: is not YAML: "},
		{"trainer.steps=010", "trainer.steps: 010 is 8-based"},
		{"trainer.steps.x=1", "trainer.steps: is a section, not a whole number"},
		{"trainer..steps=1", `unknown key`},
		{"trainer=x", "trainer: is \"x\", not a section"},
		{FlagFor("--steps", "many", "trainer.steps"), `--steps many: trainer.steps: "many" is not a whole number`},
		{FlagFor("--steps", "[", "trainer.steps"), "--steps [: is not YAML: "},
	} {
		_, _, err := load("", c.set)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %s", c.set, err, c.want)
		}
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, _, err := load("trainer:\n  stpes: 5\n  rate: x\nother: {weight: y}", "trainer.fast=1")
	if lines := strings.Split(fmt.Sprint(err), "\n"); len(lines) != 4 {
		t.Errorf("got %d lines, want 4:\n%v", len(lines), err)
	}
	var text strings.Builder
	for i := range 100 {
		fmt.Fprintf(&text, "key%d: 1\n", i)
	}
	_, _, err = load(text.String())
	if lines := strings.Split(fmt.Sprint(err), "\n"); len(lines) != maxFaults+1 || !strings.HasSuffix(lines[maxFaults], "and 80 more faults") {
		t.Errorf("got %d lines:\n%v", len(lines), err)
	}
}

func TestSectionAndLocate(t *testing.T) {
	t.Parallel()
	_, origins, err := load("trainer:\n  steps: 5\n  sources: [{path: x}]")
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("steps: 5 is odd")
	var nested, faults Faults
	nested.Add("rate", "is %d", 0)
	nested.Add("sources[0].path", "is short")
	faults.Section("trainer", errors.Join(cause, nested.Err()))
	faults.Add("other.path", "is empty")
	err = Locate(faults.Err(), origins)
	want := "t.yaml:2:10: trainer.steps: 5 is odd\ntrainer.rate: is 0\nt.yaml:3:12: trainer.sources[0].path: is short\nother.path: is empty"
	if err.Error() != want || !errors.Is(err, cause) || !errors.Is(err, ErrInvalid) {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if err := Locate(nil, origins); err != nil {
		t.Error(err)
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	pad := 3
	cfg := outer{Trainer: inner{Steps: 7, Rate: 3e-4, Single: 0.1, Name: "no", Pad: &pad, Prompts: []string{"a,b", "", "x"},
		Sources: []source{{"x", 1}}}, Other: source{Path: "a/b.c"}}
	want := `trainer:
  steps: 7
  small: 0
  seed: 0
  rate: 0.0003
  single: 0.1
  betas: [0, 0]
  name: "no"
  fast: false
  pad_token_id: 3
  prompts: ["a,b", "", x]
  sources: [{path: x, weight: 1}]
other:
  path: a/b.c
  weight: 0
`
	got, err := Encode(cfg)
	if err != nil || string(got) != want {
		t.Errorf("got\n%s%v\nwant\n%s", got, err, want)
	}
	pointer, err := Encode(&cfg)
	if err != nil || !slices.Equal(pointer, got) {
		t.Errorf("a pointer encodes differently: %s%v", pointer, err)
	}
	noted, err := Annotate(cfg, Origins{"trainer.steps": "--set trainer.steps=7"})
	if err != nil || !strings.Contains(string(noted), "  steps: 7                         # --set trainer.steps=7\n") {
		t.Errorf("%s%v", noted, err)
	}
	var again outer
	if _, err := Load(&again, File{"annotated", noted}, nil); err != nil || !reflect.DeepEqual(again, cfg) {
		t.Errorf("%+v %v", again, err)
	}
	for _, bad := range []outer{{Other: source{Path: "\xff"}}, {Other: source{Weight: math.Inf(1)}}} {
		if _, err := Encode(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("encoded %+v: %v", bad, err)
		}
	}
}

func TestDiffAndHash(t *testing.T) {
	t.Parallel()
	a, b := outer{}, outer{}
	b.Trainer.Steps = 5
	b.Other.Path = "x"
	diff, err := Diff(a, b)
	if err != nil || fmt.Sprint(diff) != `[trainer.steps: 0 and 5 other.path: "" and x]` {
		t.Errorf("%v %v", diff, err)
	}
	ha, _ := Hash(a)
	hb, _ := Hash(b)
	ha2, err := Hash(outer{})
	if ha == hb || ha != ha2 || len(ha) != 64 || err != nil {
		t.Error(ha, hb, ha2, err)
	}
	// What a struct with fewer keys hashes to.
	earlier := struct {
		Other struct {
			Path string `yaml:"path"`
		} `yaml:"other"`
	}{}
	earlier.Other.Path = "x"
	he, _ := Hash(earlier)
	if hb, err = HashOf(b, func(key string) bool { return key == "other.path" }); hb != he || err != nil {
		t.Error(hb, he, err)
	}
}

// TestRoundTrip draws values and strings of every kind.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[-+.0-9a-fxoE_:~<=]{1,6}`),
			rapid.SampledFrom([]string{"no", "null", "~", "0o7", "1:30", "...", "---", "- a", "a: b", "#", " x "}))
		real := rapid.Float64Range(-1e300, 1e300)
		cfg := outer{Trainer: inner{
			Steps: rapid.Int().Draw(t, "steps"), Small: rapid.Int8().Draw(t, "small"), Seed: rapid.Uint64().Draw(t, "seed"),
			Rate: real.Draw(t, "rate"), Single: rapid.Float32Range(-1e30, 1e30).Draw(t, "single"), Name: text.Draw(t, "name"),
			Fast: rapid.Bool().Draw(t, "fast"), Pad: rapid.Ptr(rapid.Int(), true).Draw(t, "pad"),
		}, Other: source{Path: text.Draw(t, "path")}}
		if prompts := rapid.SliceOf(text).Draw(t, "prompts"); len(prompts) > 0 {
			cfg.Trainer.Prompts = prompts
			cfg.Trainer.Sources = []source{{prompts[0], real.Draw(t, "weight")}}
		}
		encoded, err := Encode(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var again outer
		if _, err := Load(&again, File{"again", encoded}, nil); err != nil {
			t.Fatalf("%v\n%s", err, encoded)
		}
		if !reflect.DeepEqual(again, cfg) {
			t.Fatalf("got  %+v\nwant %+v\n%s", again, cfg, encoded)
		}
	})
}

func TestRules(t *testing.T) {
	t.Parallel()
	for _, cfg := range []any{
		&struct{ A int }{},
		&struct {
			a int `yaml:"a"`
		}{},
		&struct {
			A map[string]int `yaml:"a"`
		}{},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%T was accepted", cfg)
				}
			}()
			_, _ = Load(cfg, File{"t", []byte("a: 1")}, nil)
		}()
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	names := []string{"nano", "mini", "jamba-v0.1", "hidden_size"}
	for name, want := range map[string]string{
		"nan": "nano", "Nano": "nano", "mnii": "mini", "jamba_v0.1": "jamba-v0.1", "hidden": "", "zebra": "", "": "",
		"HiddenSize": "hidden_size", strings.Repeat("x", 10000): "",
	} {
		if got := Nearest(name, names); got != want {
			t.Errorf("Nearest(%.20q) = %q, want %q", name, got, want)
		}
	}
}

// FuzzLoad checks that no text or assignment panics, and that what is accepted
// survives encoding.
func FuzzLoad(f *testing.F) {
	f.Add("trainer:\n  steps: 5\n", "trainer.rate=3e-4")
	f.Add("trainer: {name: 'x', betas: [0.9, 0.95], pad_token_id: null}", "other.path=\"a b\"")
	f.Add("trainer: &a {steps: 5}\nother: *a", "trainer.prompts=[a, 'b', \"c\"]")
	f.Add("? [x]\n: y", "=")
	f.Add("a: !!binary aGk=\n--- \n...", "trainer={steps: 5}")
	f.Add("%YAML 1.1\n---\ntrainer:\n  name: |\n    text\n    more", "trainer.sources=[{path: x}]")
	f.Fuzz(func(t *testing.T, text, set string) {
		cfg, _, err := load(text, set)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("%v is not ErrInvalid", err)
			}
			return
		}
		encoded, err := Encode(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var again outer
		if _, err := Load(&again, File{"again", encoded}, nil); err != nil || !reflect.DeepEqual(again, cfg) {
			t.Fatalf("%v\n%+v\n%+v\n%s", err, cfg, again, encoded)
		}
	})
}
