package pool

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestRunCoversEveryTaskOnce(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 2, 3, 8} {
		p := New(workers)
		for _, tasks := range []int{0, 1, 2, 3, 7, 64, 1000} {
			counts := make([]atomic.Int32, tasks)
			held := make([]atomic.Int32, workers)
			p.Run(tasks, func(task, worker int) {
				if held[worker].Add(1) != 1 {
					t.Errorf("worker %d runs two tasks at once", worker)
				}
				counts[task].Add(1)
				held[worker].Add(-1)
			})
			for i := range counts {
				if n := counts[i].Load(); n != 1 {
					t.Fatalf("%d workers, %d tasks: task %d ran %d times", workers, tasks, i, n)
				}
			}
		}
		p.Close()
	}
}

// Plain writes by tasks are visible after Run, and writes before Run are visible to tasks (checked by -race).
func TestManyShortRuns(t *testing.T) {
	t.Parallel()
	p := New(3)
	defer p.Close()
	sums := make([]int, 8)
	step := 0
	f := func(task, _ int) { sums[task] += step }
	want := 0
	for step = 1; step <= 3000; step++ {
		p.Run(len(sums), f)
		want += step
	}
	for i, got := range sums {
		if got != want {
			t.Errorf("task %d summed %d, want %d", i, got, want)
		}
	}
}

func TestRunAfterHelpersParked(t *testing.T) {
	t.Parallel()
	p := New(4)
	defer p.Close()
	for range 3 {
		waitParked(t, p)
		var met sync.WaitGroup // every worker must come, or the run never ends
		met.Add(p.Workers())
		p.Run(p.Workers(), func(_, _ int) { met.Done(); met.Wait() })
	}
}

func waitParked(t *testing.T, p *Pool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for _, h := range p.helpers {
		for !h.parked.Load() {
			if time.Now().After(deadline) {
				t.Fatal("a helper without work does not park")
			}
			runtime.Gosched()
		}
	}
}

func TestConcurrentRunsTakeTurns(t *testing.T) {
	t.Parallel()
	p := New(2)
	defer p.Close()
	scratch := make([]int, p.Workers()) // unsynchronised: -race tells if two runs overlap
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range 200 {
				p.Run(5, func(_, worker int) { scratch[worker]++ })
			}
		})
	}
	callers.Wait()
	if got := scratch[0] + scratch[1]; got != 4*200*5 {
		t.Errorf("ran %d tasks, want %d", got, 4*200*5)
	}
}

func TestWithinRunsSeriallyAsItsWorker(t *testing.T) {
	t.Parallel()
	p := New(3)
	defer p.Close()
	var inner atomic.Int32
	p.Run(20, func(_, worker int) {
		own := p.Within(worker)
		next := 0
		own.Within(0).Run(5, func(task, w int) {
			if w != worker || task != next {
				t.Errorf("nested task %d on worker %d, want %d on %d", task, w, next, worker)
			}
			next++
			inner.Add(1)
		})
	})
	if inner.Load() != 100 {
		t.Errorf("%d nested tasks ran, want 100", inner.Load())
	}
}

func TestPanicReachesTheCaller(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	p := New(3)
	defer p.Close()
	for bad := range 12 {
		func() {
			defer func() {
				failure, ok := recover().(*TaskPanic)
				if !ok || !errors.Is(failure, cause) || len(failure.Stack) == 0 {
					t.Errorf("task %d: recovered %v, want a *TaskPanic with the cause", bad, failure)
				}
			}()
			p.Run(12, func(task, _ int) {
				if task == bad {
					panic(cause)
				}
			})
		}()
	}
	ran := atomic.Int32{}
	p.Run(12, func(_, _ int) { ran.Add(1) })
	if ran.Load() != 12 {
		t.Errorf("after a panic %d of 12 tasks ran", ran.Load())
	}
}

func TestRunAfterClose(t *testing.T) {
	t.Parallel()
	p := New(4)
	p.Close()
	ran := 0
	p.Run(9, func(_, worker int) { ran++ })
	if ran != 9 {
		t.Errorf("%d of 9 tasks ran after Close", ran)
	}
}

func TestRunDoesNotAllocate(t *testing.T) {
	p := New(4)
	defer p.Close()
	var done atomic.Int64
	f := func(_, _ int) { done.Add(1) }
	if n := testing.AllocsPerRun(200, func() { p.Run(16, f) }); n != 0 {
		t.Errorf("Run allocates %v times", n)
	}
}

func BenchmarkRun(b *testing.B) {
	for _, workers := range []int{1, 2} {
		b.Run([]string{"one", "two"}[workers-1], func(b *testing.B) {
			p := New(workers)
			defer p.Close()
			f := func(_, _ int) {}
			for b.Loop() {
				p.Run(2, f)
			}
		})
	}
}
