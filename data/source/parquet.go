package source

import (
	"errors"
	"fmt"
	"os"

	"github.com/apache/arrow/go/v15/parquet"
	parquetfile "github.com/apache/arrow/go/v15/parquet/file"
)

var errDamaged = errors.New("the file is damaged")

// parquetBatch is the number of values decoded at a time.
const parquetBatch = 256

// readParquet yields a document a row: a column of strings, nulls left out.
func (r *reader) readParquet(f file) (more bool, err error) {
	name := r.source.full(f)
	defer func() {
		if p := recover(); p != nil { // the library's answer to some damage
			more, err = false, fmt.Errorf("%s: it is damaged: %v", name, p)
		}
	}()
	in, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer in.Close()
	table, err := parquetfile.NewParquetReader(in)
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	defer table.Close()
	opts := r.source.opts
	textColumn, err := findColumn(table, opts.TextField, 0)
	if err != nil {
		return false, fmt.Errorf("%s: %w: name the one with the text (--text-field, text_field)", name, err)
	}
	maskColumn := -1
	if r.source.HasMask() {
		if maskColumn, err = findColumn(table, opts.MaskField, 1); err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
	}
	row := 0
	for g := range table.NumRowGroups() {
		group := table.RowGroup(g)
		texts, masks, err := openColumns(group, textColumn, maskColumn)
		if err != nil {
			return false, fmt.Errorf("%s: row group %d: %w", name, g, err)
		}
		for range group.NumRows() {
			text, isNull, err := texts.next()
			if err != nil {
				return false, fmt.Errorf("%s: row %d: %w", name, row+1, err)
			}
			var mask []uint8
			if masks != nil {
				if mask, err = masks.next(); err != nil {
					return false, fmt.Errorf("%s: row %d: %w", name, row+1, err)
				}
			}
			if !isNull {
				read := f.size * int64(row) / max(table.NumRows(), 1)
				if more, err := r.document(f, row, read, text, mask); !more {
					return false, err
				}
			}
			row++
		}
	}
	return true, nil
}

// findColumn returns the number of a column of plain values (depth 0) or of lists
// of them (depth 1).
func findColumn(table *parquetfile.Reader, name string, depth int16) (int, error) {
	schema := table.MetaData().Schema
	for i := range schema.NumColumns() {
		column := schema.Column(i)
		if column.ColumnPath()[0] != name {
			continue
		}
		kind := column.PhysicalType()
		switch {
		case column.MaxRepetitionLevel() != depth:
			return 0, fmt.Errorf("column %q is nested in another way than we read", name)
		case depth == 0 && kind != parquet.Types.ByteArray:
			return 0, fmt.Errorf("column %q holds no strings", name)
		case depth == 1 && kind != parquet.Types.Int32 && kind != parquet.Types.Boolean:
			return 0, fmt.Errorf("column %q holds neither lists of small whole numbers nor of truth values", name)
		}
		return i, nil
	}
	return 0, fmt.Errorf("it has no column %q", name)
}

func openColumns(group *parquetfile.RowGroupReader, text, mask int) (*textColumn, *maskColumn, error) {
	column, err := group.Column(text)
	if err != nil {
		return nil, nil, err
	}
	strings, ok := column.(*parquetfile.ByteArrayColumnChunkReader)
	if !ok {
		return nil, nil, fmt.Errorf("column %d holds no strings", text)
	}
	texts := &textColumn{column: strings, optional: column.Descriptor().MaxDefinitionLevel()}
	if mask < 0 {
		return texts, nil, nil
	}
	if column, err = group.Column(mask); err != nil {
		return nil, nil, err
	}
	return texts, &maskColumn{column: column, full: column.Descriptor().MaxDefinitionLevel()}, nil
}

// textColumn hands out the strings of a column chunk one by one.
type textColumn struct {
	column   *parquetfile.ByteArrayColumnChunkReader
	optional int16 // definition level of a value that is not null

	values    [parquetBatch]parquet.ByteArray
	levels    [parquetBatch]int16
	rows, row int
	value     int
}

func (c *textColumn) next() (text []byte, isNull bool, err error) {
	if c.row == c.rows {
		rows, _, err := c.column.ReadBatch(parquetBatch, c.values[:], c.levels[:], nil)
		if err != nil {
			return nil, false, err
		}
		if rows == 0 {
			return nil, false, fmt.Errorf("the text column ends early: %w", errDamaged)
		}
		c.rows, c.row, c.value = int(rows), 0, 0
	}
	c.row++
	if c.optional > 0 && c.levels[c.row-1] < c.optional {
		return nil, true, nil
	}
	c.value++
	return c.values[c.value-1], false, nil
}

// maskColumn hands out the lists of a column chunk one by one.
type maskColumn struct {
	column parquetfile.ColumnChunkReader
	full   int16 // definition level of an element that is there

	definitions, repetitions [parquetBatch]int16
	values                   [parquetBatch]uint8
	entries, entry, value    int
	started                  bool
	mask                     []uint8
}

// next returns the list of the next row; nil is none.
func (c *maskColumn) next() ([]uint8, error) {
	c.mask = nil
	for c.started = false; ; c.entry++ {
		if c.entry == c.entries {
			if err := c.fill(); err != nil {
				return nil, err
			}
			if c.entries == 0 {
				if c.started {
					return c.mask, nil
				}
				return nil, fmt.Errorf("the mask column ends early: %w", errDamaged)
			}
		}
		if c.repetitions[c.entry] == 0 {
			if c.started {
				return c.mask, nil
			}
			c.started = true
		}
		if c.definitions[c.entry] == c.full {
			c.mask = append(c.mask, c.values[c.value])
			c.value++
		}
	}
}

func (c *maskColumn) fill() error {
	var n int64
	var err error
	values := 0
	switch column := c.column.(type) {
	case *parquetfile.Int32ColumnChunkReader:
		var numbers [parquetBatch]int32
		n, values, err = column.ReadBatch(parquetBatch, numbers[:], c.definitions[:], c.repetitions[:])
		for i, v := range numbers[:values] {
			if v != 0 && v != 1 {
				return fmt.Errorf("the mask has the value %d, neither 0 nor 1", v)
			}
			c.values[i] = uint8(v)
		}
	case *parquetfile.BooleanColumnChunkReader:
		var flags [parquetBatch]bool
		n, values, err = column.ReadBatch(parquetBatch, flags[:], c.definitions[:], c.repetitions[:])
		for i, v := range flags[:values] {
			c.values[i] = 0
			if v {
				c.values[i] = 1
			}
		}
	default:
		return errDamaged
	}
	c.entries, c.entry, c.value = int(n), 0, 0
	return err
}
