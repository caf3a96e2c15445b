package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Metrics appends to a metrics file. Its methods are not safe for concurrent use.
type Metrics struct {
	file *os.File
	size int64 // of the lines that are complete
	last int64
}

// OpenMetrics opens or creates the metrics file of a run that goes on after a
// step, and cuts off the lines after it. Step -1 starts afresh.
func OpenMetrics(path string, step int64) (*Metrics, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	m := &Metrics{file: f, last: -1}
	err = scan(f, path, func(l Line, size int64) bool {
		if l.Step > step {
			return false
		}
		m.last, m.size = l.Step, size
		return true
	})
	if err == nil {
		err = f.Truncate(m.size)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("metrics: %w", err), f.Close())
	}
	return m, nil
}

// Last is the step of the last line, or -1.
func (m *Metrics) Last() int64 { return m.last }

// Append writes a line. Its step must be after the last one's.
func (m *Metrics) Append(l Line) error {
	if l.Step <= m.last {
		return fmt.Errorf("metrics: %w: step %d after step %d", ErrOrder, l.Step, m.last)
	}
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("metrics: step %d: %w", l.Step, err)
	}
	text = append(text, '\n')
	if _, err := m.file.WriteAt(text, m.size); err != nil {
		// Joined errors are lines of their own: the second one would add nothing.
		_ = m.file.Truncate(m.size)
		return fmt.Errorf("metrics: step %d: %w", l.Step, advice(err))
	}
	m.last, m.size = l.Step, m.size+int64(len(text))
	return nil
}

// Sync makes the lines survive a power cut. Call it before the checkpoint that a
// resumed run would start from is committed: lines before it are not written again.
func (m *Metrics) Sync() error {
	if err := m.file.Sync(); err != nil {
		return fmt.Errorf("metrics: %w", advice(err))
	}
	return nil
}

// Close closes the file.
func (m *Metrics) Close() error {
	if err := m.file.Close(); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// ReadMetrics returns the lines of a metrics file, which may be one that a run is
// still writing or was killed while writing.
func ReadMetrics(path string) ([]Line, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	defer f.Close()
	var lines []Line
	err = scan(f, path, func(l Line, _ int64) bool {
		lines = append(lines, l)
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return lines, nil
}

// scan calls visit for each complete line and the size of the file up to its
// end, until visit says no.
func scan(f io.Reader, path string, visit func(l Line, size int64) bool) error {
	r := bufio.NewReaderSize(f, 1<<16)
	var size int64
	last := int64(-1)
	for n := 1; ; n++ {
		text, err := readLine(r)
		if errors.Is(err, io.EOF) {
			return nil // what has no line end was not finished
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", path, n, err)
		}
		size += int64(len(text))
		l := Line{Step: -1}
		if err := json.Unmarshal(text, &l); err != nil || l.Step <= last {
			return fmt.Errorf("%w: %s:%d is not the line of a later step; move the file away to go on without it", ErrDamaged, path, n)
		}
		if last = l.Step; !visit(l, size) {
			return nil
		}
	}
}

// maxLine is the size of the longest line: that of a model of 1,000 layers with 100
// experts each has about 2 MB.
const maxLine = 16 << 20

// readLine returns the next line with its end.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxLine || bytes.IndexByte(part, 0) >= 0 {
			return nil, fmt.Errorf("%w: it is no text, or a line of more than %d bytes; move the file away to go on without it", ErrDamaged, maxLine)
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}
