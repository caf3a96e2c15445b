package table_test

import (
	"errors"
	"math"
	"os"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"

	"jambalaya/data/table"
)

func temporary(t *testing.T) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "*.arrow")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestWriteReadsBack(t *testing.T) {
	t.Parallel()
	out := temporary(t)
	err := table.Write(out, []table.Column{
		{Name: "run", Values: []string{"a", "b"}}, {Name: "steps", Values: []int64{3, 1 << 40}}, {Name: "loss", Values: []float64{math.NaN(), 1.5}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := ipc.NewFileReader(out)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	record, err := r.Record(0)
	if err != nil {
		t.Fatal(err)
	}
	run, steps, loss := record.Column(0).(*array.String), record.Column(1).(*array.Int64), record.Column(2).(*array.Float64)
	if run.Value(1) != "b" || steps.Value(1) != 1<<40 || !loss.IsNull(0) || loss.Value(1) != 1.5 {
		t.Errorf("%v", record)
	}
}

func TestBadColumns(t *testing.T) {
	t.Parallel()
	for _, columns := range [][]table.Column{
		{{Name: "a", Values: []int{1}}},
		{{Name: "a", Values: []int64{1}}, {Name: "b", Values: []int64{1, 2}}},
	} {
		if err := table.Write(temporary(t), columns); !errors.Is(err, table.ErrColumn) {
			t.Errorf("%v: %v", columns, err)
		}
	}
}
