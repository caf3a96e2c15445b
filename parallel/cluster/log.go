package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"

	"jambalaya/internal/vfs"
)

// LogName is the file, in the run's directory, that records each generation.
const LogName = "GENERATIONS"

const maxLog = 64 << 20

// Log is what the file says. A line is the checksum of the rest (crc32c, 8 hex
// digits), a space, and a generation as JSON.
type Log struct {
	// Entries are the generations there were, in order: each has a higher number
	// than the one before, and no lower term. Lines that break that rule were
	// written by a coordinator that had been replaced, and count for nothing.
	Entries []Generation
	// Damaged counts lines whose checksum does not hold: torn by a crash, or worse.
	Damaged int

	spent   uint64 // no generation up to this one may be used again
	unended bool   // the last line has no end
}

// Last returns the newest generation, nil if there was none.
func (l *Log) Last() *Generation {
	if len(l.Entries) == 0 {
		return nil
	}
	return &l.Entries[len(l.Entries)-1]
}

// Spent returns the highest number that must not be used again. It is beyond the
// newest generation if lines after that are damaged: each may have been one.
func (l *Log) Spent() uint64 { return l.spent }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ReadLog reads the log in a directory; it is empty if there is no file.
func ReadLog(fsys vfs.FS, dir string) (*Log, error) {
	text, err := vfs.ReadFile(fsys, path.Join(dir, LogName), maxLog)
	if errors.Is(err, fs.ErrNotExist) {
		return &Log{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLog, err)
	}
	return parseLog(text), nil
}

func parseLog(text []byte) *Log {
	l := &Log{unended: len(text) > 0 && text[len(text)-1] != '\n'}
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		g, ok := parseLine(line)
		if !ok {
			l.Damaged++
			l.spent++
			continue
		}
		if last := l.Last(); last != nil && (g.Number <= last.Number || g.Term < last.Term) {
			continue
		}
		l.Entries = append(l.Entries, *g)
		l.spent = max(l.spent, g.Number)
	}
	return l
}

func parseLine(line []byte) (*Generation, bool) {
	sum, body, ok := bytes.Cut(line, []byte(" "))
	if !ok || string(sum) != checksum(body) {
		return nil, false
	}
	g := &Generation{}
	if err := json.Unmarshal(body, g); err != nil || g.Number == 0 {
		return nil, false
	}
	return g, true
}

func checksum(b []byte) string { return fmt.Sprintf("%08x", crc32.Checksum(b, castagnoli)) }

// Append records a generation, durably. It fails with ErrDeposed if the file shows
// that another coordinator has been at work, and then the generation must not be
// used: its number may belong to another.
func Append(fsys vfs.FS, dir string, g *Generation) error {
	before, err := ReadLog(fsys, dir)
	if err != nil {
		return err
	}
	body, err := json.Marshal(g)
	if err != nil {
		return err
	}
	line := fmt.Appendf(nil, "%s %s\n", checksum(body), body)
	if before.unended {
		line = append([]byte("\n"), line...)
	}
	f, err := fsys.Append(path.Join(dir, LogName))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLog, err)
	}
	if _, err := f.Write(line); err != nil {
		f.Close()
		return fmt.Errorf("%w: %w", ErrLog, err)
	}
	if err := errors.Join(vfs.SyncClose(f), fsys.SyncDir(dir)); err != nil {
		return fmt.Errorf("%w: %w", ErrLog, err)
	}
	return accepted(fsys, dir, g)
}

// accepted reads the log again: only what stands there counts.
func accepted(fsys vfs.FS, dir string, g *Generation) error {
	after, err := ReadLog(fsys, dir)
	if err != nil {
		return err
	}
	last := after.Last()
	if last == nil || last.Number != g.Number || last.Term != g.Term {
		return fmt.Errorf("%w: generation %d of term %d is not the newest in %s", ErrDeposed, g.Number, g.Term, LogName)
	}
	return nil
}

// Commit appends a generation for the holder of a lease, and returns the event that
// tells its coordinator. It fails with ErrDeposed if the lease is another's.
func Commit(fsys vfs.FS, dir string, lease *Lease, g *Generation) (Event, error) {
	if err := lease.Check(); err != nil {
		return nil, err
	}
	err := Append(fsys, dir, g)
	if err != nil && !errors.Is(err, ErrDeposed) {
		return nil, err
	}
	if check := lease.Check(); check != nil {
		return nil, check
	}
	if err == nil {
		return Persisted{Generation: g.Number}, nil
	}
	// An earlier holder wrote at the same moment. This one has the lease still, and
	// takes the next number.
	log, err := ReadLog(fsys, dir)
	if err != nil {
		return nil, err
	}
	return Rejected{Spent: max(log.Spent(), g.Number)}, nil
}
