package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"sync"
	"time"

	"jambalaya/internal/vfs"
)

// Options say what a Manager writes into manifests and whom it asks and tells.
type Options struct {
	Config
	Run  string // the run's identity
	Term int64  // of the lease held, 0 without one
	// Generation is that of this start of the run; 0: one more than the newest
	// published one.
	Generation int64
	Mesh       map[string]int // size of each axis
	// Peers, if there are any, save with this process. Each opens a manager with the
	// same options and calls Save for the same steps; all get the same Result. Rank 0's
	// commits and clears away, and is the only one whose Latest may be called.
	Peers Peers
	// Fence, if there is one, is asked right before a checkpoint is published. An
	// error stops the publication; one that wraps ErrFenced says that this process
	// has lost its right to for good.
	Fence func() error
	// Done, if there is one, is told of every save that ended. It is called by
	// the goroutine that writes, while the next save waits, and must not call the
	// manager.
	Done func(Result)
}

// Result is how a save ended.
type Result struct {
	Step      int64
	Name      string // of the directory
	Bytes     int64
	Copied    time.Duration // for which Save held up its caller, copying
	Written   time.Duration // from then to the end
	Err       error         // why there is no checkpoint; nil if there is one
	RetainErr error         // why older checkpoints could not be cleared away
}

// Manager writes the checkpoints of one process into a directory. Save, Wait and
// Saved may be called by one goroutine at a time.
type Manager struct {
	fsys vfs.FS
	dir  string
	opt  Options

	slot chan struct{} // holds one token while a save is in flight
	buf  []byte        // host memory of the save in flight, used again

	mu       sync.Mutex
	saved    int64 // step of the newest checkpoint loaded or published, -1: none
	failures int   // in a row
	last     error // of the last save that ended
	fatal    error // why no further save is taken
}

// Open prepares dir for writing: it makes the directory and clears away what
// interrupted saves left. Of several processes, rank 0 does.
func Open(fsys vfs.FS, dir string, opt Options) (*Manager, error) {
	if err := opt.Validate(); err != nil {
		return nil, err
	}
	if opt.Peers == nil {
		opt.Peers = alone{}
	}
	if opt.Peers.Rank() > 0 {
		return newManager(fsys, dir, opt), nil
	}
	if err := vfs.MkdirAll(fsys, dir); err != nil {
		return nil, fmt.Errorf("open checkpoints: %w", advice(err))
	}
	if opt.Generation == 0 {
		newest, err := newestGeneration(fsys, dir)
		if err != nil {
			return nil, err
		}
		opt.Generation = newest + 1
	}
	m := newManager(fsys, dir, opt)
	if err := errors.Join(m.clearLeftovers(), m.tryWriting()); err != nil {
		return nil, fmt.Errorf("open checkpoints: %w", advice(err))
	}
	return m, nil
}

func newManager(fsys vfs.FS, dir string, opt Options) *Manager {
	opt.Mesh = maps.Clone(opt.Mesh)
	return &Manager{fsys: fsys, dir: dir, opt: opt, slot: make(chan struct{}, 1), saved: -1}
}

func newestGeneration(fsys vfs.FS, dir string) (int64, error) {
	entries, err := List(fsys, dir)
	if err != nil || len(entries) == 0 || entries[0].Manifest == nil {
		return 0, err
	}
	return entries[0].Manifest.Generation, nil
}

// Generation is the one that this manager publishes under.
func (m *Manager) Generation() int64 { return m.opt.Generation }

// Latest returns the newest checkpoint that verifies, to go on from, and those
// that had to be skipped. Corrupt ones are moved to quarantine/; ErrNone says that
// there is none to go on from. Those named in but are left out.
func (m *Manager) Latest(ctx context.Context, but ...string) (*Checkpoint, []Skipped, error) {
	m.slot <- struct{}{} // a save in flight may be deleting old checkpoints
	defer func() { <-m.slot }()
	found, skipped, err := Find(ctx, m.fsys, m.dir, but...)
	for i := range skipped {
		s := &skipped[i]
		if !errors.Is(s.Err, ErrCorrupt) {
			continue
		}
		moved, moveErr := m.quarantine(s.Name)
		if moveErr != nil {
			s.Err = fmt.Errorf("%w (and it cannot be moved away: %w)", s.Err, moveErr)
			continue
		}
		s.MovedTo = moved
	}
	if err == nil {
		m.Loaded(found)
	}
	return found, skipped, err
}

// Loaded says that the process goes on from a checkpoint that Latest did not return.
func (m *Manager) Loaded(c *Checkpoint) {
	m.mu.Lock()
	m.saved = c.Manifest.Step
	m.mu.Unlock()
}

// Save copies the snapshot and writes it in the background; the caller may change
// its tensors as soon as Save returns. If an earlier save is still in flight, it
// waits for that first.
//
// A save that fails is reported by Done and Wait, and training can go on: the
// checkpoint before it stays. Save itself returns an error only if no checkpoint
// will come of going on: ErrGivenUp after Config.MaxFailures failures in a row,
// ErrFenced, or ErrSnapshot.
func (m *Manager) Save(s *Snapshot) error {
	b, err := newBatch(s, m.opt.Peers.Rank(), m.opt.Peers.Size())
	if err != nil {
		return fmt.Errorf("save step %d: %w", s.State.Step, err)
	}
	m.slot <- struct{}{}
	m.mu.Lock()
	fatal := m.fatal
	m.mu.Unlock()
	if fatal != nil {
		<-m.slot
		return fatal
	}
	start := time.Now()
	m.buf = b.stage(m.buf)
	copied := time.Now()
	go func() {
		defer func() { <-m.slot }()
		r := m.write(b)
		r.Copied, r.Written = copied.Sub(start), time.Since(copied)
		m.finish(r)
	}()
	return nil
}

// Wait waits for the save in flight and returns how the last one ended.
func (m *Manager) Wait() error {
	m.slot <- struct{}{}
	defer func() { <-m.slot }()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fatal != nil {
		return m.fatal
	}
	return m.last
}

// Leave calls then when no save is in flight: at once, or in the background when the one
// that is has ended. The manager must not be used after it.
func (m *Manager) Leave(then func()) {
	select {
	case m.slot <- struct{}{}:
		then()
	default:
		go func() {
			m.slot <- struct{}{}
			then()
		}()
	}
}

// Saved is the step of the newest checkpoint that was loaded or published, -1 if
// there is none. A save in flight does not count.
func (m *Manager) Saved() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.saved
}

func (m *Manager) finish(r Result) {
	m.mu.Lock()
	m.last = r.Err
	switch {
	case r.Err == nil:
		m.saved = r.Step
		m.failures = 0
	case errors.Is(r.Err, ErrFenced):
		m.fatal = r.Err
	default:
		m.failures++
		if m.failures >= m.opt.MaxFailures {
			m.fatal = fmt.Errorf("%w (%d): %w", ErrGivenUp, m.failures, r.Err)
		}
	}
	m.mu.Unlock()
	if m.opt.Done != nil {
		m.opt.Done(r)
	}
}

// write makes a batch, with those of the peers, a published checkpoint.
func (m *Manager) write(b *batch) Result {
	r := Result{Step: b.step, Name: stepDir(b.step)}
	tmp := path.Join(m.dir, writingDir(r.Step, m.opt.Generation))
	parts, err := m.writeParts(b, tmp)
	if err == nil {
		err = m.conclude(b, tmp, parts, &r)
	}
	if err != nil {
		if m.opt.Peers.Rank() == 0 {
			// What is written goes, above all when the disk is full; if that fails
			// too, the next Open clears it away.
			_ = vfs.RemoveAll(m.fsys, tmp)
		}
		r.Err = fmt.Errorf("save step %d: %w", r.Step, advice(err))
	}
	return r
}

// writeParts writes what this process has, and returns what all have written.
func (m *Manager) writeParts(b *batch, tmp string) ([]written, error) {
	_, err := gather(m.opt.Peers, "prepare a checkpoint", func(*struct{}) error {
		if m.opt.Peers.Rank() > 0 {
			return nil
		}
		if err := vfs.RemoveAll(m.fsys, tmp); err != nil {
			return err
		}
		return m.fsys.Mkdir(tmp)
	})
	if err != nil {
		return nil, err
	}
	return gather(m.opt.Peers, "write a checkpoint", func(w *written) (err error) {
		w.Files, err = b.writeFiles(m.fsys, tmp)
		w.Index = b.index
		return err
	})
}

// conclude has rank 0 commit the checkpoint, and tells all how that ended.
func (m *Manager) conclude(b *batch, tmp string, parts []written, r *Result) error {
	var failed error // on rank 0
	said, err := gather(m.opt.Peers, "commit a checkpoint", func(o *outcome) error {
		if m.opt.Peers.Rank() > 0 {
			return nil
		}
		if failed = m.commit(b, tmp, parts, r); failed != nil {
			o.Problem, o.Fenced = failed.Error(), errors.Is(failed, ErrFenced)
		}
		o.Bytes = r.Bytes
		return nil
	})
	if failed != nil || err != nil {
		return errors.Join(failed, err)
	}
	r.Bytes = said[0].Bytes
	return said[0].err()
}

// commit writes what makes the parts one checkpoint, publishes it, and clears older
// ones away.
func (m *Manager) commit(b *batch, tmp string, parts []written, r *Result) error {
	var index Index
	var sums []FileSum
	for _, p := range parts {
		if err := index.merge(p.Index); err != nil {
			return err
		}
		sums = append(sums, p.Files...)
	}
	if err := index.check(); err != nil {
		return err
	}
	tables, err := writeTables(m.fsys, tmp, &index, b.state)
	if err != nil {
		return err
	}
	manifest := &Manifest{
		Format: FormatVersion, Run: m.opt.Run, Step: r.Step, Parent: m.Saved(), Generation: m.opt.Generation,
		Term: m.opt.Term, Created: time.Now().UTC().Truncate(time.Second), Mesh: m.opt.Mesh, Files: append(sums, tables...),
	}
	if err := manifest.check(); err != nil {
		return err
	}
	r.Bytes = manifest.Size()
	if err := manifest.commit(m.fsys, tmp); err != nil {
		return err
	}
	if err := m.publish(tmp, r.Name); err != nil {
		return err
	}
	if r.RetainErr = m.retain(r.Name); errors.Is(r.RetainErr, ErrCorrupt) {
		return fmt.Errorf("it does not read back: %w", r.RetainErr)
	}
	return nil
}

// publish gives a whole checkpoint its name, which is the commit. It fails if the
// step is published already or if a newer generation has published anything.
func (m *Manager) publish(tmp, name string) error {
	if err := m.checkGeneration(); err != nil {
		return err
	}
	if m.opt.Fence != nil {
		if err := m.opt.Fence(); err != nil {
			return err
		}
	}
	err := m.fsys.Rename(tmp, path.Join(m.dir, name))
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is %w", name, ErrExists)
	}
	if err != nil {
		return err
	}
	if err := m.fsys.SyncDir(m.dir); err != nil {
		return err
	}
	// A process that was stopped between the first look and the rename may have
	// been replaced meanwhile. Readers prefer the newer generation anyway.
	if err := m.checkGeneration(); errors.Is(err, ErrFenced) {
		_, moveErr := m.quarantine(name)
		return errors.Join(err, moveErr)
	}
	return nil
}

func (m *Manager) checkGeneration() error {
	newest, err := newestGeneration(m.fsys, m.dir)
	if err != nil {
		return err
	}
	if newest > m.opt.Generation {
		return fmt.Errorf("%w: this one is %d, there are checkpoints of %d", ErrFenced, m.opt.Generation, newest)
	}
	return nil
}
