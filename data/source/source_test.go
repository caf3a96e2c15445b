package source

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/parquet"
	parquetfile "github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/schema"
)

func writeTree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(text), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// read returns all documents as name:text:mask, held-out ones with a * before.
func read(t *testing.T, s *Source) []string {
	t.Helper()
	var got []string
	for d, err := range s.Documents() {
		if err != nil {
			t.Fatal(err)
		}
		line := d.Name + ":" + string(d.Text)
		if d.Mask != nil {
			line += fmt.Sprint(":", d.Mask)
		}
		if d.HeldOut {
			line = "*" + line
		}
		if d.Read > s.Size() {
			t.Errorf("%s: %d of %d bytes read", d.Name, d.Read, s.Size())
		}
		got = append(got, line)
	}
	return got
}

func open(t *testing.T, path string, opts Options) *Source {
	t.Helper()
	s, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	dir := writeTree(t, map[string]string{
		"b.txt": "B", "a/z.txt": "Z", "a/y.txt": "Y", "a/no.md": "-", ".git/c.txt": "-", "empty.txt": "", "ab/x.txt": "X",
	})
	if err := os.Symlink(filepath.Join(dir, "b.txt"), filepath.Join(dir, "link.txt")); err != nil {
		t.Fatal(err)
	}
	got := read(t, open(t, dir, Options{Ext: ".txt", HeldOut: []string{"a/"}}))
	if want := []string{"*a/y.txt:Y", "*a/z.txt:Z", "ab/x.txt:X", "b.txt:B"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestHeldOutIsStable(t *testing.T) {
	t.Parallel()
	groups := map[string]int64{}
	for i := range 1000 {
		groups[fmt.Sprintf("dir%d", i)] = int64(1000 * (1 + i%300))
	}
	chosen := chooseGroups(groups)
	total, held := int64(0), int64(0)
	for name, size := range groups {
		total += size
		if chosen[name] {
			held += size
		}
	}
	if want := total / heldOutShare; held < want || held > want+want/4 {
		t.Errorf("%d of %d bytes are held out", held, total)
	}
	delete(groups, "dir7")
	again := chooseGroups(groups)
	same := 0
	for name := range again {
		if chosen[name] {
			same++
		}
	}
	if same < len(chosen)*9/10 {
		t.Errorf("only %d of %d groups stay held out when one goes", same, len(chosen))
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	dir := writeTree(t, map[string]string{"x.jsonl": `{"id": 1, "text": "aä\n"}` + "\n\n" + `{"text":"b", "m": [true]}` + "\r\n" + `{"text":"cd", "m": [0,1]}`})
	path := filepath.Join(dir, "x.jsonl")
	got := read(t, open(t, path, Options{MaskField: "m"}))
	if want := []string{"x.jsonl:aä\n", "x.jsonl:b:[1]", "x.jsonl:cd:[0 1]"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRowsHeldOut(t *testing.T) {
	t.Parallel()
	var lines strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&lines, "{\"text\": \"%d\"}\n", i)
	}
	dir := writeTree(t, map[string]string{"x.jsonl": lines.String()})
	held := 0
	for _, line := range read(t, open(t, filepath.Join(dir, "x.jsonl"), Options{})) {
		if line[0] == '*' {
			held++
		}
	}
	if held < 20 || held > 60 {
		t.Errorf("%d of 2000 rows are held out", held)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file, text string
		opts       Options
		want       string
	}{
		{"x.jsonl", "{\"text\": 1}", Options{}, `x.jsonl: line 1: its field "text" is not a text`},
		{"x.jsonl", "{\"body\": \"\"}", Options{}, `line 1: it has no field "text"`},
		{"x.jsonl", "{\"text\": \"\"}\n[]", Options{}, "line 2: it is not a JSON object"},
		{"x.jsonl", `{"text": "ab", "m": [1]}`, Options{MaskField: "m"}, "row 1: the mask has 1 values for 2 bytes"},
		{"x.jsonl", `{"text": "ab", "m": [1, 2]}`, Options{MaskField: "m"}, "value 1 is 2"},
		{"x.jsonl", `{"text": "ab", "m": "no"}`, Options{MaskField: "m"}, "not a list of 0 and 1"},
		{"x.parquet", "PAR1 not really PAR1", Options{}, "x.parquet"},
		{"x.parquet", "", Options{}, "x.parquet"},
	} {
		s := open(t, filepath.Join(writeTree(t, map[string]string{c.file: c.text}), c.file), c.opts)
		var last error
		for _, err := range s.Documents() {
			last = err
		}
		if !errors.Is(last, ErrInput) || !strings.Contains(last.Error(), c.want) || strings.Contains(last.Error(), "\n") {
			t.Errorf("%q: got %v, want %s", c.text, last, c.want)
		}
	}
}

// writeParquet makes a file with an optional string column and a list column, in
// row groups of three.
func writeParquet(t *testing.T, texts []string, masks [][]int32) string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	text := schema.NewByteArrayNode("text", parquet.Repetitions.Optional, -1)
	element := schema.NewInt32Node("element", parquet.Repetitions.Optional, -1)
	list, err := schema.NewGroupNode("list", parquet.Repetitions.Repeated, schema.FieldList{element}, -1)
	must(err)
	mask, err := schema.NewGroupNode("mask", parquet.Repetitions.Optional, schema.FieldList{list}, -1)
	must(err)
	root, err := schema.NewGroupNode("schema", parquet.Repetitions.Required, schema.FieldList{schema.NewInt64Node("id", parquet.Repetitions.Required, -1), text, mask}, -1)
	must(err)
	path := filepath.Join(t.TempDir(), "x.parquet")
	f, err := os.Create(path)
	must(err)
	w := parquetfile.NewParquetWriter(f, root)
	for len(texts) > 0 {
		n := min(3, len(texts))
		group := w.AppendRowGroup()
		ids, err := group.NextColumn()
		must(err)
		_, err = ids.(*parquetfile.Int64ColumnChunkWriter).WriteBatch(make([]int64, n), nil, nil)
		must(err)
		must(ids.Close())
		must(writeTexts(group, texts[:n]))
		must(writeMasks(group, masks[:n]))
		must(group.Close())
		texts, masks = texts[n:], masks[n:]
	}
	must(w.Close())
	return path
}

// writeTexts writes the column of texts; "null" is none.
func writeTexts(group parquetfile.SerialRowGroupWriter, texts []string) error {
	column, err := group.NextColumn()
	if err != nil {
		return err
	}
	var values []parquet.ByteArray
	var levels []int16
	for _, s := range texts {
		levels = append(levels, 0)
		if s != "null" {
			levels[len(levels)-1] = 1
			values = append(values, parquet.ByteArray(s))
		}
	}
	_, err = column.(*parquetfile.ByteArrayColumnChunkWriter).WriteBatch(values, levels, nil)
	return errors.Join(err, column.Close())
}

// writeMasks writes the column of masks; nil is none.
func writeMasks(group parquetfile.SerialRowGroupWriter, masks [][]int32) error {
	column, err := group.NextColumn()
	if err != nil {
		return err
	}
	var numbers []int32
	var definitions, repetitions []int16
	for _, m := range masks {
		if m == nil {
			definitions, repetitions = append(definitions, 0), append(repetitions, 0)
		}
		for i, v := range m {
			definitions, repetitions = append(definitions, 3), append(repetitions, int16(min(i, 1)))
			numbers = append(numbers, v)
		}
	}
	_, err = column.(*parquetfile.Int32ColumnChunkWriter).WriteBatch(numbers, definitions, repetitions)
	return errors.Join(err, column.Close())
}

func TestParquet(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1000) // a mask that crosses the reader's batches
	longMask := slices.Repeat([]int32{0, 1}, 500)
	path := writeParquet(t, []string{"a", "null", "", "bc", long}, [][]int32{nil, nil, nil, {0, 1}, longMask})
	got := read(t, open(t, path, Options{MaskField: "mask"}))
	want := []string{"x.parquet:a", "x.parquet:", "x.parquet:bc:[0 1]", "x.parquet:" + long + ":" + fmt.Sprint(longMask)}
	if !slices.Equal(got, want) {
		t.Errorf("got %.200q", got)
	}
	for field, want := range map[string]string{"nix": `no column "nix"`, "id": "holds no strings", "mask": "nested"} {
		s := open(t, path, Options{TextField: field})
		for _, err := range s.Documents() {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v", field, err)
			}
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(data); i += 5 { // damage gives errors or other text, never a panic
		bad := slices.Clone(data)
		bad[i] ^= 1 << (i % 8)
		if err := os.WriteFile(path, bad, 0o666); err != nil {
			t.Fatal(err)
		}
		for range open(t, path, Options{MaskField: "mask"}).Documents() {
		}
	}
}

func TestGoSource(t *testing.T) {
	t.Parallel()
	const human = "package a\n"
	root := writeTree(t, map[string]string{
		"src/a/a.go": human, "src/b/copy.go": human, "src/b/b.go": "package b\n", "src/b/testdata/x.go": "package (",
		"src/b/gen.go":  "// Copyright\n\n// Code generated by x. DO NOT EDIT.\n\npackage b\n",
		"src/b/says.go": "package b\n\n// Code generated by x. DO NOT EDIT.\n", "src/b/notes.txt": "no",
	})
	s, err := openGo(root)
	if err != nil {
		t.Fatal(err)
	}
	got := read(t, s)
	want := []string{"a/a.go:" + human, "b/b.go:package b\n", "b/says.go:package b\n\n// Code generated by x. DO NOT EDIT.\n"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := openGo(t.TempDir()); !errors.Is(err, ErrInput) {
		t.Errorf("no source: %v", err)
	}
}

// TestRealGoSource reads the distribution that runs this test.
func TestRealGoSource(t *testing.T) {
	t.Parallel()
	s, err := OpenGo()
	if err != nil {
		t.Skip(err)
	}
	var train, held int64
	for d, err := range s.Documents() {
		if err != nil {
			t.Fatal(err)
		}
		if d.HeldOut {
			held += int64(len(d.Text))
		} else {
			train += int64(len(d.Text))
		}
	}
	if train < 30<<20 || held < 1<<20 || held > 3<<20 {
		t.Errorf("%d bytes to train on, %d held out", train, held)
	}
}
