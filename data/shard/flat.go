package shard

import (
	"encoding/binary"
	"math"
)

// flat reads flatbuffers without trusting them. Every access is bounds-checked; one
// that is out of bounds sets bad and yields 0, so that callers check once, at the
// end. The format: https://flatbuffers.dev/internals
type flat struct {
	data []byte
	bad  bool
}

// at returns the n bytes at a position, or zeros.
func (f *flat) at(pos, n int) []byte {
	if pos < 0 || n < 0 || pos > len(f.data)-n {
		f.bad = true
		return make([]byte, min(max(n, 0), 8))
	}
	return f.data[pos : pos+n]
}

func (f *flat) u8(pos int) int     { return int(f.at(pos, 1)[0]) }
func (f *flat) i16(pos int) int    { return int(int16(binary.LittleEndian.Uint16(f.at(pos, 2)))) }
func (f *flat) i32(pos int) int    { return int(int32(binary.LittleEndian.Uint32(f.at(pos, 4)))) }
func (f *flat) i64(pos int) int64  { return int64(binary.LittleEndian.Uint64(f.at(pos, 8))) }
func (f *flat) follow(pos int) int { return pos + f.offset(pos) }

// offset reads a forward offset.
func (f *flat) offset(pos int) int {
	n := binary.LittleEndian.Uint32(f.at(pos, 4))
	if n > math.MaxInt32 {
		f.bad = true
		return 0
	}
	return int(n)
}

// field returns the position of a table's field by its number, or 0 if the table
// does not have it.
func (f *flat) field(table, number int) int {
	vtable := table - f.i32(table)
	entry := 4 + 2*number
	if entry+2 > int(binary.LittleEndian.Uint16(f.at(vtable, 2))) {
		return 0
	}
	offset := int(binary.LittleEndian.Uint16(f.at(vtable+entry, 2)))
	if offset == 0 {
		return 0
	}
	return table + offset
}

// table returns the position of the table that a field refers to.
func (f *flat) table(table, number int) int {
	pos := f.field(table, number)
	if pos == 0 {
		f.bad = true
		return 0
	}
	return f.follow(pos)
}

// vector returns the position of the first of n elements of a field's vector;
// n is 0 if there is none.
func (f *flat) vector(table, number, elementSize int) (first, n int) {
	pos := f.field(table, number)
	if pos == 0 {
		return 0, 0
	}
	pos = f.follow(pos)
	n = f.offset(pos)
	first = pos + 4
	if n > len(f.data)/elementSize {
		f.bad = true
		return 0, 0
	}
	f.at(first, n*elementSize)
	if f.bad {
		return 0, 0
	}
	return first, n
}

// text returns a field's string, "" if there is none.
func (f *flat) text(table, number int) string {
	first, n := f.vector(table, number, 1)
	return string(f.at(first, n))
}
