package source

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxLine bounds a line and so the memory that a file can ask for.
const maxLine = 256 << 20

// readLines yields a document a line: a JSON object with the text in one field.
func (r *reader) readLines(f file) (bool, error) {
	name := r.source.full(f)
	in, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer in.Close()
	lines := bufio.NewReaderSize(in, 1<<20)
	read := int64(0)
	for row := 0; ; row++ {
		line, err := readLine(lines, r.buffer[:0])
		r.buffer = line
		read += int64(len(line))
		if err != nil && err != io.EOF {
			return false, fmt.Errorf("%s: line %d: %w", name, row+1, err)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			text, mask, err := r.source.parseLine(line)
			if err != nil {
				return false, fmt.Errorf("%s: line %d: %w", name, row+1, err)
			}
			if more, err := r.document(f, row, read, []byte(text), mask); !more {
				return false, err
			}
		}
		if err == io.EOF {
			return true, nil
		}
	}
}

// readLine appends the next line, its end included, to a buffer.
func readLine(in *bufio.Reader, buffer []byte) ([]byte, error) {
	for {
		part, err := in.ReadSlice('\n')
		if len(buffer)+len(part) > maxLine {
			return buffer, fmt.Errorf("it is longer than %d MB", maxLine>>20)
		}
		buffer = append(buffer, part...)
		if err != bufio.ErrBufferFull {
			return buffer, err
		}
	}
}

func (s *Source) parseLine(line []byte) (text string, mask []uint8, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return "", nil, fmt.Errorf("it is not a JSON object: %w", err)
	}
	raw, ok := fields[s.opts.TextField]
	if !ok {
		return "", nil, fmt.Errorf("it has no field %q: name the one with the text (--text-field, text_field)", s.opts.TextField)
	}
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", nil, fmt.Errorf("its field %q is not a text", s.opts.TextField)
	}
	if raw, ok := fields[s.opts.MaskField]; ok && s.HasMask() {
		if mask, err = parseMask(raw); err != nil {
			return "", nil, fmt.Errorf("its field %q: %w", s.opts.MaskField, err)
		}
	}
	return text, mask, nil
}

// parseMask reads a list of 0 and 1, or of false and true; null is no mask.
func parseMask(raw json.RawMessage) ([]uint8, error) {
	var flags []bool
	if json.Unmarshal(raw, &flags) == nil {
		if flags == nil {
			return nil, nil
		}
		mask := make([]uint8, len(flags))
		for i, f := range flags {
			if f {
				mask[i] = 1
			}
		}
		return mask, nil
	}
	var numbers []uint
	if err := json.Unmarshal(raw, &numbers); err != nil {
		return nil, errors.New("it is not a list of 0 and 1")
	}
	mask := make([]uint8, len(numbers))
	for i, n := range numbers {
		if n > 1 {
			return nil, fmt.Errorf("value %d is %d, neither 0 nor 1", i, n)
		}
		mask[i] = uint8(n)
	}
	return mask, nil
}
