package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"jambalaya/internal/vfs"
)

// LeaseDir is the directory, in that of the run, that holds the lease: a file a
// term. The one with the highest number is the lease.
//
// A term is taken by creating its file, which succeeds for one process only. The
// holder renews by replacing its own file, so that no other file is ever touched;
// whether it still holds the lease depends on there being no higher term.
const LeaseDir = "lease"

const (
	termPrefix = "term-"
	maxRecord  = 64 << 10
	keptTerms  = 3 // of past holders, for who looks at the directory
)

// Record is the lease as its holder wrote it.
type Record struct {
	Term     uint64        `json:"term"`
	Run      string        `json:"run"`
	Holder   string        `json:"holder"`  // incarnation
	Address  string        `json:"address"` // of the coordinator
	Gossip   string        `json:"gossip"`  // where the holder gossips, "" if it does not
	Renewal  uint64        `json:"renewal"` // counts
	TTL      time.Duration `json:"ttl"`     // nanoseconds without a renewal after which it has expired
	Released bool          `json:"released"`
}

// ReadLease returns the current record. Term is 0 if nobody ever held the lease;
// a record of which only the term is known is being written, or was torn.
func ReadLease(fsys vfs.FS, dir string) (Record, error) {
	term, err := highestTerm(fsys, dir)
	if err != nil || term == 0 {
		return Record{}, err
	}
	r := Record{Term: term}
	text, err := vfs.ReadFile(fsys, termFile(dir, term), maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil // replaced this very moment
	}
	if err != nil {
		return r, fmt.Errorf("lease: %w", err)
	}
	sum, body, _ := strings.Cut(strings.TrimSuffix(string(text), "\n"), " ")
	var read Record
	if sum == checksum([]byte(body)) && json.Unmarshal([]byte(body), &read) == nil && read.Term == term {
		r = read
	}
	return r, nil
}

func highestTerm(fsys vfs.FS, dir string) (uint64, error) {
	entries, err := fsys.ReadDir(path.Join(dir, LeaseDir))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("lease: %w", err)
	}
	highest := uint64(0)
	for _, e := range entries {
		if term, ok := parseTerm(e.Name()); ok {
			highest = max(highest, term)
		}
	}
	return highest, nil
}

func termFile(dir string, term uint64) string {
	return path.Join(dir, LeaseDir, fmt.Sprintf("%s%012d", termPrefix, term))
}

func parseTerm(name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, termPrefix)
	if !ok || len(digits) != 12 {
		return 0, false
	}
	term, err := strconv.ParseUint(digits, 10, 64)
	return term, err == nil
}

// Observer decides when a lease that others renew has expired. It compares what it
// sees with what it saw, by its own clock, so that clocks need not agree.
type Observer struct {
	seen  Record
	since time.Duration
	any   bool
}

// Expired takes the record as read at a time, which never goes back, and the TTL
// to assume if the record does not say.
func (o *Observer) Expired(now time.Duration, r Record, ttl time.Duration) bool {
	if r.Term == 0 || r.Released {
		return true
	}
	if !o.any || r != o.seen {
		o.seen, o.since, o.any = r, now, true
		return false
	}
	if r.TTL > 0 {
		ttl = r.TTL
	}
	return now-o.since >= ttl
}

// Lease is a term that this process has taken.
type Lease struct {
	fsys    vfs.FS
	dir     string
	record  Record
	renewed time.Duration // when, by the holder's clock
}

// Acquire takes the term after the current one, r, which has expired. ErrHeld says
// that another process was quicker. Term of the record given by the caller is
// ignored.
func Acquire(fsys vfs.FS, dir string, now time.Duration, current Record, mine Record) (*Lease, error) {
	if err := vfs.MkdirAll(fsys, path.Join(dir, LeaseDir)); err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	mine.Term, mine.Renewal, mine.Released = current.Term+1, 0, false
	l := &Lease{fsys: fsys, dir: dir, record: mine, renewed: now}
	f, err := fsys.Create(termFile(dir, mine.Term))
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("term %d: %w", mine.Term, ErrHeld)
	}
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	if err := l.fill(f); err != nil {
		return nil, err
	}
	if err := fsys.SyncDir(path.Join(dir, LeaseDir)); err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	l.forget()
	return l, l.Check()
}

// fill writes the record. It is not synced: after a power cut the lease is to
// expire, and what must be remembered is the file's name.
func (l *Lease) fill(f vfs.File) error {
	body, err := json.Marshal(l.record)
	if err == nil {
		_, err = fmt.Fprintf(f, "%s %s\n", checksum(body), body)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	return nil
}

// forget removes the files of long past terms.
func (l *Lease) forget() {
	entries, err := l.fsys.ReadDir(path.Join(l.dir, LeaseDir))
	if err != nil {
		return
	}
	for _, e := range entries {
		if term, ok := parseTerm(e.Name()); ok && term+keptTerms < l.record.Term {
			_ = l.fsys.Remove(path.Join(l.dir, LeaseDir, e.Name())) // another may have
		}
	}
}

// Term returns the term of the lease.
func (l *Lease) Term() uint64 { return l.record.Term }

// Check returns ErrDeposed if another process has taken a later term.
func (l *Lease) Check() error {
	term, err := highestTerm(l.fsys, l.dir)
	if err != nil {
		return err
	}
	if term != l.record.Term {
		return fmt.Errorf("%w: this one has term %d, there is a term %d", ErrDeposed, l.record.Term, term)
	}
	return nil
}

// Renew extends the lease. A holder that comes too late may still renew, as long as
// nobody has taken a later term: then nobody thought it dead.
func (l *Lease) Renew(now time.Duration) error {
	if err := l.Check(); err != nil {
		return err
	}
	l.record.Renewal++
	if err := l.replace(); err != nil {
		return err
	}
	l.renewed = now
	return l.Check()
}

// replace writes the record anew under the same name.
func (l *Lease) replace() error {
	name := termFile(l.dir, l.record.Term)
	fresh := fmt.Sprintf("%s.%d", name, l.record.Renewal)
	f, err := l.fsys.Create(fresh)
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	if err := l.fill(f); err != nil {
		return err
	}
	if err := l.fsys.Rename(fresh, name); err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	return nil
}

// Valid reports whether others must still take the lease for held.
func (l *Lease) Valid(now time.Duration) bool { return now-l.renewed < l.record.TTL }

// Release lets a successor take the lease at once.
func (l *Lease) Release() error {
	if err := l.Check(); err != nil {
		return nil // it is another's already
	}
	l.record.Released = true
	l.record.Renewal++
	return l.replace()
}
