package shard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"unsafe"
)

// Numbers of the Arrow format (format/File.fbs, Message.fbs and Schema.fbs of
// Apache Arrow): fields of tables, members of unions, versions.
const (
	footerSchema, footerDictionaries, footerBatches = 1, 2, 3

	schemaEndianness, schemaFields, schemaMetadata = 0, 1, 2

	fieldName, fieldTypeKind, fieldType, fieldDictionary, fieldChildren = 0, 2, 3, 4, 5

	kindInt, kindList = 2, 12

	intBits, intSigned = 0, 1

	messageHeaderKind, messageHeader = 1, 2
	headerRecordBatch                = 3

	batchLength, batchNodes, batchBuffers, batchCompression = 0, 1, 2, 3

	compressionCodec = 0
	codecZstd        = 1

	sizeBlock, sizeNode, sizeBuffer = 24, 16, 16
)

const magic = "ARROW1"

var (
	errBounds = errors.New("an offset points outside the file")
	errSchema = errors.New("its schema is not the one that the manifest describes")
)

// batch is one record batch: views of the file, or of expanded memory.
type batch struct {
	offsets []int32  // of each row's first token, and the end of the last
	narrow  []uint16 // tokens, either these
	wide    []uint32 // or these
	mask    []uint8  // 1 learn, 0 do not; nil without the column
}

func (b *batch) rows() int   { return len(b.offsets) - 1 }
func (b *batch) tokens() int { return len(b.narrow) + len(b.wide) }

// parse returns the batches of a shard. It checks all that keeps views in bounds;
// checkTokens checks what they show.
func parse(data []byte, m *Manifest, info ShardFile) ([]batch, error) {
	footer, err := findFooter(data)
	if err != nil {
		return nil, err
	}
	f := &flat{data: footer}
	root := f.follow(0)
	if err := checkSchema(f, f.table(root, footerSchema), m); err != nil {
		return nil, err
	}
	if _, n := f.vector(root, footerDictionaries, sizeBlock); n > 0 {
		return nil, errSchema
	}
	first, n := f.vector(root, footerBatches, sizeBlock)
	batches := make([]batch, 0, n)
	var rows, tokens int64
	for i := range n {
		pos := first + i*sizeBlock
		b, err := parseBlock(data, m, f.i64(pos), int64(f.i32(pos+8)), f.i64(pos+16), info.Tokens-tokens)
		if err != nil {
			return nil, fmt.Errorf("record batch %d: %w", i, err)
		}
		rows, tokens = rows+int64(b.rows()), tokens+int64(b.tokens())
		batches = append(batches, b)
	}
	if f.bad {
		return nil, errBounds
	}
	if rows != info.Rows || tokens != info.Tokens {
		return nil, fmt.Errorf("it has %d rows and %d tokens, the manifest says %d and %d", rows, tokens, info.Rows, info.Tokens)
	}
	return batches, nil
}

// findFooter returns the footer: magic, padding, batches, footer, its length, magic.
func findFooter(data []byte) ([]byte, error) {
	const head, tail = 8, 4 + len(magic)
	if len(data) < head+tail || !bytes.HasPrefix(data, []byte(magic)) || !bytes.HasSuffix(data, []byte(magic)) {
		return nil, errors.New("it is not an Arrow file")
	}
	end := len(data) - tail
	n := int64(int32(binary.LittleEndian.Uint32(data[end:])))
	if n <= 0 || n > int64(end-head) {
		return nil, errBounds
	}
	return data[end-int(n) : end], nil
}

func checkSchema(f *flat, schema int, m *Manifest) error {
	bits := 16
	if m.TokenType == "uint32" {
		bits = 32
	}
	columns := []struct {
		name string
		bits int
	}{{tokensColumn, bits}}
	if m.LossMask {
		columns = append(columns, struct {
			name string
			bits int
		}{maskColumn, 8})
	}
	first, n := f.vector(schema, schemaFields, 4)
	if n != len(columns) {
		return errSchema
	}
	if pos := f.field(schema, schemaEndianness); pos != 0 && f.i16(pos) != 0 {
		return errSchema
	}
	for i, c := range columns {
		field := f.follow(first + 4*i)
		if f.text(field, fieldName) != c.name || !isListOf(f, field, c.bits) {
			return errSchema
		}
	}
	if f.bad {
		return errBounds
	}
	return checkMetadata(f, schema, m)
}

// isListOf reports whether a field is a list of unsigned integers.
func isListOf(f *flat, field, bits int) bool {
	kind := func(field int) int {
		pos := f.field(field, fieldTypeKind)
		if pos == 0 || f.field(field, fieldDictionary) != 0 {
			return 0
		}
		return f.u8(pos)
	}
	first, n := f.vector(field, fieldChildren, 4)
	if kind(field) != kindList || n != 1 {
		return false
	}
	child := f.follow(first)
	if kind(child) != kindInt {
		return false
	}
	integer := f.table(child, fieldType)
	signed, width := f.field(integer, intSigned), f.field(integer, intBits)
	return (signed == 0 || f.u8(signed) == 0) && width != 0 && f.i32(width) == bits
}

// checkMetadata compares the tokenizer that a shard names with the manifest's.
func checkMetadata(f *flat, schema int, m *Manifest) error {
	want := map[string]string{
		metaTokenizer: m.Tokenizer.ID, metaSHA256: m.Tokenizer.SHA256, metaVocabSize: strconv.Itoa(m.Tokenizer.VocabSize),
	}
	first, n := f.vector(schema, schemaMetadata, 4)
	for i := range n {
		pair := f.follow(first + 4*i)
		key := f.text(pair, 0)
		if value, ok := want[key]; ok && f.text(pair, 1) == value {
			delete(want, key)
		}
	}
	if f.bad {
		return errBounds
	}
	if len(want) > 0 {
		return errors.New("its tokens come from another tokenizer than the manifest says")
	}
	return nil
}

// parseBlock returns the record batch at a position of the file. A batch of more
// than maxTokens is refused before memory is taken for it.
func parseBlock(data []byte, m *Manifest, pos, metaSize, bodySize, maxTokens int64) (batch, error) {
	size := int64(len(data))
	if pos < 8 || metaSize < 8 || bodySize < 0 || pos > size || metaSize > size-pos || bodySize > size-pos-metaSize {
		return batch{}, errBounds
	}
	meta := data[pos : pos+metaSize]
	body := data[pos+metaSize : pos+metaSize+bodySize]
	if binary.LittleEndian.Uint32(meta) != 0xFFFFFFFF {
		return batch{}, errors.New("it does not begin with a message")
	}
	f := &flat{data: meta[8:]}
	message := f.follow(0)
	if kind := f.field(message, messageHeaderKind); kind == 0 || f.u8(kind) != headerRecordBatch {
		return batch{}, errors.New("it is not a record batch")
	}
	r := batchReader{flat: f, table: f.table(message, messageHeader), body: body, maxTokens: maxTokens}
	return r.read(m)
}

// batchReader reads the columns of one record batch in order.
type batchReader struct {
	*flat
	table     int
	body      []byte
	maxTokens int64
	zstd      bool

	nodes, buffers int // positions of the next ones
	nodesLeft      int
	buffersLeft    int
}

func (r *batchReader) read(m *Manifest) (batch, error) {
	var length int64
	if pos := r.field(r.table, batchLength); pos != 0 {
		length = r.i64(pos)
	}
	if pos := r.field(r.table, batchCompression); pos != 0 {
		codec := r.field(r.follow(pos), compressionCodec)
		if codec == 0 || r.u8(codec) != codecZstd {
			return batch{}, errors.New("it is compressed in another way than zstd")
		}
		r.zstd = true
	}
	r.nodes, r.nodesLeft = r.vector(r.table, batchNodes, sizeNode)
	r.buffers, r.buffersLeft = r.vector(r.table, batchBuffers, sizeBuffer)
	if r.bad || length < 1 || length > r.maxTokens {
		return batch{}, fmt.Errorf("%w, or it has no rows", errBounds)
	}
	width := 2
	if m.TokenType == "uint32" {
		width = 4
	}
	var b batch
	offsets, values, err := r.list(length, width)
	if err != nil {
		return batch{}, err
	}
	b.offsets = offsets
	if width == 4 {
		b.wide, err = view[uint32](values)
	} else {
		b.narrow, err = view[uint16](values)
	}
	if err != nil || !m.LossMask {
		return b, err
	}
	offsets, b.mask, err = r.list(length, 1)
	if err == nil && !bytes.Equal(bytesOf(offsets), bytesOf(b.offsets)) {
		err = errors.New("its loss mask has other rows than its tokens")
	}
	return b, err
}

// list reads a column: offsets that rise strictly from 0, and the values up to the
// last of them, each of width bytes.
func (r *batchReader) list(rows int64, width int) (offsets []int32, values []byte, err error) {
	if r.nodesLeft < 2 || r.buffersLeft < 4 {
		return nil, nil, errSchema
	}
	listRows, listNulls, count, nulls := r.i64(r.nodes), r.i64(r.nodes+8), r.i64(r.nodes+16), r.i64(r.nodes+24)
	if listRows != rows || listNulls != 0 || nulls != 0 || count < rows || count > r.maxTokens {
		return nil, nil, errors.New("it has nulls or counts that do not fit")
	}
	raw, err := r.buffer(1, 4*(rows+1))
	if err != nil {
		return nil, nil, err
	}
	if offsets, err = view[int32](raw); err != nil {
		return nil, nil, err
	}
	if values, err = r.buffer(3, int64(width)*count); err != nil {
		return nil, nil, err
	}
	r.nodes, r.nodesLeft = r.nodes+2*sizeNode, r.nodesLeft-2
	r.buffers, r.buffersLeft = r.buffers+4*sizeBuffer, r.buffersLeft-4
	previous := int32(-1)
	for _, o := range offsets {
		if o <= previous {
			return nil, nil, errors.New("its rows do not follow each other")
		}
		previous = o
	}
	if offsets[0] != 0 || int64(previous) != count {
		return nil, nil, errors.New("its rows do not cover its tokens")
	}
	return offsets, values, nil
}

// buffer returns the contents of the i-th buffer from here, of which size bytes
// are meant.
func (r *batchReader) buffer(i int, size int64) ([]byte, error) {
	pos := r.buffers + i*sizeBuffer
	offset, length := r.i64(pos), r.i64(pos+8)
	if offset < 0 || length < 0 || offset > int64(len(r.body)) || length > int64(len(r.body))-offset {
		return nil, errBounds
	}
	data := r.body[offset : offset+length]
	if r.zstd {
		return expand(data, size)
	}
	if size > length {
		return nil, errBounds
	}
	return data[:size], nil
}

// view sees bytes as numbers, without copying.
func view[T uint16 | uint32 | int32](b []byte) ([]T, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var t T
	size := unsafe.Sizeof(t)
	if uintptr(unsafe.Pointer(&b[0]))%size != 0 {
		return nil, errors.New("its numbers are not aligned")
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), uintptr(len(b))/size), nil
}

// bytesOf sees offsets as bytes.
func bytesOf(v []int32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
}
