package checkpoint

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"jambalaya/internal/vfs"
)

// meeting is where the processes of a test gather.
type meeting struct {
	mu   sync.Mutex
	size int
	said [][]byte
	came int
	next chan struct{} // closed when all have come
}

func newMeeting(size int) *meeting {
	return &meeting{size: size, said: make([][]byte, size), next: make(chan struct{})}
}

func (m *meeting) gather(rank int, message []byte) [][]byte {
	m.mu.Lock()
	said, next := m.said, m.next
	said[rank] = message
	if m.came++; m.came == m.size {
		m.came, m.said, m.next = 0, make([][]byte, m.size), make(chan struct{})
		close(next)
	}
	m.mu.Unlock()
	<-next
	return said
}

type peer struct {
	*meeting
	rank int
}

func (p peer) Rank() int { return p.rank }
func (p peer) Size() int { return p.size }
func (p peer) Gather(_ string, message []byte) ([][]byte, error) {
	return p.gather(p.rank, message), nil
}

// saveTogether saves a step on size processes, each with every size-th tensor and
// file system faulty(rank), and returns how that ended on each.
func saveTogether(t *testing.T, size int, step int64, opt Options, faulty func(rank int) vfs.FS) []error {
	t.Helper()
	meeting := newMeeting(size)
	errs := make([]error, size)
	opt.Config = Default()
	managers := make([]*Manager, size)
	for rank := range managers {
		opt.Peers = peer{meeting, rank}
		managers[rank] = open(t, faulty(rank), opt)
	}
	var wg sync.WaitGroup
	for rank, m := range managers {
		wg.Go(func() {
			s := snapshot(step)
			all := s.Tensors
			s.Tensors = nil
			for i := range all {
				if i%size == rank {
					s.Tensors = append(s.Tensors, all[i])
				}
			}
			errs[rank] = errors.Join(m.Save(s), m.Wait())
			if published := m.Saved() == step; published != (errs[rank] == nil) {
				t.Errorf("rank %d: saved step %d, error %v", rank, m.Saved(), errs[rank])
			}
		})
	}
	wg.Wait()
	return errs
}

// TestPeers saves with 1 to 5 processes and loads the whole with one.
func TestPeers(t *testing.T) {
	t.Parallel()
	for size := 1; size <= 5; size++ {
		fsys := vfs.NewMem()
		if err := errors.Join(saveTogether(t, size, 7, Options{Generation: 3, Term: 9}, func(int) vfs.FS { return fsys })...); err != nil {
			t.Fatal(err)
		}
		c, skipped := latest(t, open(t, fsys, Options{}))
		if len(skipped) > 0 || c.Manifest.Generation != 3 || c.Manifest.Term != 9 {
			t.Errorf("%d processes: %+v, skipped %v", size, c.Manifest, skipped)
		}
		last := fmt.Sprintf("model-r%04d-of-%04d.safetensors", size-1, size)
		if size < 4 && !strings.Contains(strings.Join(children(t, fsys, dir+"/step-00000007"), " "), last) {
			t.Errorf("%d processes: no %s", size, last)
		}
	}
}

// TestPeersFailTogether fails each operation of each process in turn: then there is
// no checkpoint for any of them, and nothing is left.
func TestPeersFailTogether(t *testing.T) {
	t.Parallel()
	const size = 3
	disk := errors.New("disk")
	for bad := range size {
		failures := 0
		for n := 0; ; n++ {
			fsys := vfs.NewMem()
			var faults *vfs.Faults
			armed := false
			errs := saveTogether(t, size, 7, Options{Generation: 1}, func(rank int) vfs.FS {
				if rank != bad {
					return fsys
				}
				faults = vfs.NewFaults(fsys, func(op vfs.Op) error {
					if op.N == n && strings.Contains(op.Name, stepDir(7)) {
						armed = true
						return disk
					}
					return nil
				})
				return faults
			})
			if !armed {
				if n > faults.Count() {
					break
				}
				continue
			}
			if len(steps(t, fsys)) > 0 { // what failed came after the commit, or was not needed
				continue
			}
			failures++
			for rank, err := range errs {
				if err == nil || !strings.Contains(err.Error(), "disk") {
					t.Errorf("operation %d of rank %d: rank %d says %v", n, bad, rank, err)
				}
			}
			if left := children(t, fsys, dir); len(left) > 0 && bad > 0 {
				t.Errorf("operation %d of rank %d: %v is left", n, bad, left)
			}
		}
		if failures < 5 {
			t.Errorf("rank %d: only %d operations failed", bad, failures)
		}
	}
}

// TestPeersFenced: the fence of rank 0 stops all, for good.
func TestPeersFenced(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	fence := func() error { return fmt.Errorf("lease lost: %w", ErrFenced) }
	for rank, err := range saveTogether(t, 3, 7, Options{Generation: 1, Fence: fence}, func(int) vfs.FS { return fsys }) {
		if !errors.Is(err, ErrFenced) {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
	if got := steps(t, fsys); len(got) > 0 {
		t.Errorf("published %v", got)
	}
	errs := saveTogether(t, 2, 8, Options{Generation: 5}, func(int) vfs.FS { return fsys })
	stale := saveTogether(t, 2, 9, Options{Generation: 4}, func(int) vfs.FS { return fsys })
	if err := errors.Join(errs...); err != nil || !errors.Is(stale[0], ErrFenced) || !errors.Is(stale[1], ErrFenced) {
		t.Errorf("generation 5: %v; then generation 4: %v", err, stale)
	}
}
