package table

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// ErrColumn marks a column that does not fit into the table.
var ErrColumn = errors.New("table: bad column")

// Column is a column: Values is []string, []int64 or []float64.
type Column struct {
	Name   string
	Values any
}

// Write writes the columns as one record batch of an Arrow file.
func Write(out io.WriteSeeker, columns []Column) error {
	var fields []arrow.Field
	var arrays []arrow.Array
	rows := -1
	for _, c := range columns {
		a, err := c.array()
		if err != nil {
			return err
		}
		defer a.Release()
		if rows >= 0 && a.Len() != rows {
			return fmt.Errorf("%w %s: it has %d values, those before have %d", ErrColumn, c.Name, a.Len(), rows)
		}
		rows = a.Len()
		fields, arrays = append(fields, arrow.Field{Name: c.Name, Type: a.DataType(), Nullable: true}), append(arrays, a)
	}
	schema := arrow.NewSchema(fields, nil)
	record := array.NewRecord(schema, arrays, int64(rows))
	defer record.Release()
	w, err := ipc.NewFileWriter(out, ipc.WithSchema(schema))
	if err != nil {
		return fmt.Errorf("table: %w", err)
	}
	if err := errors.Join(w.Write(record), w.Close()); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	return nil
}

func (c Column) array() (arrow.Array, error) {
	switch values := c.Values.(type) {
	case []string:
		b := array.NewStringBuilder(memory.DefaultAllocator)
		b.AppendValues(values, nil)
		return b.NewArray(), nil
	case []int64:
		b := array.NewInt64Builder(memory.DefaultAllocator)
		b.AppendValues(values, nil)
		return b.NewArray(), nil
	case []float64:
		b := array.NewFloat64Builder(memory.DefaultAllocator)
		valid := make([]bool, len(values))
		for i, x := range values {
			valid[i] = !math.IsNaN(x)
		}
		b.AppendValues(values, valid)
		return b.NewArray(), nil
	}
	return nil, fmt.Errorf("%w %s: values of type %T", ErrColumn, c.Name, c.Values)
}
