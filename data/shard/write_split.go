package shard

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"path"
	"slices"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"jambalaya/internal/vfs"
)

const (
	batchTokens  = 1 << 21 // a record batch is written above this
	batchRows    = 1 << 16
	maxRowTokens = 1 << 30

	tokensColumn = "tokens"
	maskColumn   = "loss_mask"
	listItem     = "item"

	metaTokenizer = "tokenizer"
	metaSHA256    = "tokenizer_sha256"
	metaVocabSize = "vocab_size"
)

// splitWriter writes the shards of one split.
type splitWriter struct {
	w      *Writer
	totals Totals
	schema *arrow.Schema

	// The batch being filled. Offsets has an element more than there are rows;
	// either wide or narrow is used.
	offsets []int32
	narrow  []uint16
	wide    []uint32
	mask    []uint8

	file  *hashedFile // the shard being written, or nil
	arrow *ipc.FileWriter
	info  ShardFile
}

func newSplitWriter(w *Writer, name string) *splitWriter {
	return &splitWriter{w: w, totals: Totals{Name: name}, schema: schemaOf(&w.manifest), offsets: []int32{0}}
}

// schemaOf returns the schema of all shards of a data set.
func schemaOf(m *Manifest) *arrow.Schema {
	list := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.ListOfField(arrow.Field{Name: listItem, Type: t})}
	}
	var item arrow.DataType = arrow.PrimitiveTypes.Uint16
	if m.TokenType == "uint32" {
		item = arrow.PrimitiveTypes.Uint32
	}
	fields := []arrow.Field{list(tokensColumn, item)}
	if m.LossMask {
		fields = append(fields, list(maskColumn, arrow.PrimitiveTypes.Uint8))
	}
	t := m.Tokenizer
	meta := arrow.NewMetadata([]string{metaTokenizer, metaSHA256, metaVocabSize}, []string{t.ID, t.SHA256, strconv.Itoa(t.VocabSize)})
	return arrow.NewSchema(fields, &meta)
}

func (s *splitWriter) add(tokens []uint32, mask []uint8, bytes int) error {
	if s.w.manifest.TokenType == "uint16" {
		n := len(s.narrow)
		s.narrow = slices.Grow(s.narrow, len(tokens))[:n+len(tokens)]
		for i, id := range tokens {
			s.narrow[n+i] = uint16(id)
		}
	} else {
		s.wide = append(s.wide, tokens...)
	}
	if s.w.opts.LossMask {
		if mask != nil {
			s.mask = append(s.mask, mask...)
		} else {
			for range tokens {
				s.mask = append(s.mask, 1)
			}
		}
	}
	n := s.offsets[len(s.offsets)-1] + int32(len(tokens))
	s.offsets = append(s.offsets, n)
	s.totals.Bytes += int64(bytes)
	if n >= batchTokens || len(s.offsets) > batchRows {
		return s.flush()
	}
	return nil
}

// flush writes the batch and ends the shard if that is large enough.
func (s *splitWriter) flush() error {
	rows := len(s.offsets) - 1
	if rows == 0 {
		return nil
	}
	if err := s.open(); err != nil {
		return err
	}
	tokens := int(s.offsets[rows])
	var values arrow.ArrayData
	if s.wide != nil {
		values = primitive(arrow.PrimitiveTypes.Uint32, tokens, arrow.Uint32Traits.CastToBytes(s.wide))
	} else {
		values = primitive(arrow.PrimitiveTypes.Uint16, tokens, arrow.Uint16Traits.CastToBytes(s.narrow))
	}
	columns := []arrow.Array{s.list(0, values)}
	if s.w.opts.LossMask {
		columns = append(columns, s.list(1, primitive(arrow.PrimitiveTypes.Uint8, tokens, s.mask)))
	}
	record := array.NewRecord(s.schema, columns, int64(rows))
	if err := s.arrow.Write(record); err != nil {
		return fmt.Errorf("%s: %w", s.info.Name, err)
	}
	s.info.Rows += int64(rows)
	s.info.Tokens += int64(tokens)
	s.offsets, s.narrow, s.wide, s.mask = s.offsets[:1], s.narrow[:0], s.wide[:0], s.mask[:0]
	if s.file.size >= s.w.opts.FileBytes {
		return s.finish()
	}
	return nil
}

// primitive makes an array of the bytes of its values, which it does not copy.
func primitive(t arrow.DataType, n int, values []byte) arrow.ArrayData {
	return array.NewData(t, n, []*memory.Buffer{nil, memory.NewBufferBytes(values)}, nil, 0, 0)
}

// list makes a column of the batch's offsets and these values.
func (s *splitWriter) list(column int, values arrow.ArrayData) arrow.Array {
	offsets := memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(s.offsets))
	return array.NewListData(array.NewData(s.schema.Field(column).Type, len(s.offsets)-1,
		[]*memory.Buffer{nil, offsets}, []arrow.ArrayData{values}, 0, 0))
}

func (s *splitWriter) open() error {
	if s.file != nil {
		return nil
	}
	s.info = ShardFile{File: File{Name: fmt.Sprintf("%s-%05d.arrow", s.totals.Name, len(s.totals.Files))}}
	f, err := s.w.fs.Create(path.Join(s.w.temp, s.info.Name))
	if err != nil {
		return err
	}
	s.file = newHashedFile(f)
	options := []ipc.Option{ipc.WithSchema(s.schema)}
	if s.w.opts.Compression == Zstd {
		options = append(options, ipc.WithZstd())
	}
	s.arrow, err = ipc.NewFileWriter(s.file, options...)
	return err
}

// finish ends the shard and enters it in the totals.
func (s *splitWriter) finish() error {
	if s.file == nil {
		return nil
	}
	if err := s.arrow.Close(); err != nil {
		return fmt.Errorf("%s: %w", s.info.Name, err)
	}
	f := s.file
	s.file = nil
	if err := f.close(); err != nil {
		return fmt.Errorf("%s: %w", s.info.Name, err)
	}
	s.info.Size, s.info.SHA256 = f.size, hex.EncodeToString(f.hash.Sum(nil))
	s.totals.Files = append(s.totals.Files, s.info)
	s.totals.Rows += s.info.Rows
	s.totals.Tokens += s.info.Tokens
	return nil
}

func (s *splitWriter) close() error {
	if err := s.flush(); err != nil {
		return err
	}
	return s.finish()
}

func (s *splitWriter) abandon() {
	if s.file != nil {
		s.file.file.Close()
		s.file = nil
	}
}

// hashedFile is a file that counts and hashes what is written to it. It buffers,
// as the Arrow library writes in small pieces.
type hashedFile struct {
	file   vfs.File
	buffer *bufio.Writer
	hash   hash.Hash
	size   int64
}

func newHashedFile(f vfs.File) *hashedFile {
	h := &hashedFile{file: f, hash: sha256.New()}
	h.buffer = bufio.NewWriterSize(io.MultiWriter(f, h.hash), 1<<20)
	return h
}

func (h *hashedFile) Write(p []byte) (int, error) {
	n, err := h.buffer.Write(p)
	h.size += int64(n)
	return n, err
}

// Seek only tells the position, which is all that the Arrow library asks.
func (h *hashedFile) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekCurrent {
		return 0, fmt.Errorf("a shard is written from front to back")
	}
	return h.size, nil
}

func (h *hashedFile) close() error {
	if err := h.buffer.Flush(); err != nil {
		h.file.Close()
		return err
	}
	return vfs.SyncClose(h.file)
}

func sha256Hex(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
