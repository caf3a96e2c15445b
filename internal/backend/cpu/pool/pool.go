package pool

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// The word that publishes a run: epoch<<32 | open<<31 | helpers inside. Helpers enter an open run they have not
// entered before by counting themselves in; the caller shuts it and waits for the count to fall to zero. A
// helper that wakes too late finds it shut, so nobody waits for a sleeper.
const (
	openBit    = 1 << 31
	insideMask = openBit - 1
	epochUnit  = 1 << 32
)

// A helper polls spinRounds times spinPolls times between two runs before it parks, and yields after each
// round so that other goroutines get the processor. About 0.1 ms in all.
const (
	spinRounds = 16
	spinPolls  = 1 << 14
)

// Pool is a set of workers. The zero value is not usable; see New.
type Pool struct {
	turn    sync.Mutex // held for a run
	fixed   int        // worker index of a serial pool (see Within)
	workers int
	helpers []*helper
	serial  []Pool
	closed  atomic.Bool
	exited  sync.WaitGroup

	// The current run; written while it is shut and empty, read by those inside.
	f      func(task, worker int)
	tasks  int64
	failed atomic.Pointer[TaskPanic]

	_    [64]byte // the words the workers contend for stand on lines of their own
	word atomic.Uint64
	_    [56]byte
	next atomic.Int64
	_    [56]byte
}

// helper is a worker other than the caller.
type helper struct {
	parked atomic.Bool
	wake   chan struct{}
	_      [48]byte
}

// New starts a pool of the given number of workers, the callers of Run being one; 0 or less means GOMAXPROCS.
func New(workers int) *Pool {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	p := &Pool{workers: workers, serial: make([]Pool, workers)}
	for w := range p.serial {
		p.serial[w].fixed, p.serial[w].workers = w, 1
	}
	for w := 1; w < workers; w++ {
		h := &helper{wake: make(chan struct{}, 1)}
		p.helpers = append(p.helpers, h)
		p.exited.Go(func() { p.help(h, w) })
	}
	return p
}

// Workers is the number of tasks that can run at once, and one above the largest worker index.
func (p *Pool) Workers() int { return p.workers }

// Within is the pool for work inside a task that runs as the given worker: it runs everything on the calling
// goroutine and passes that worker index on.
func (p *Pool) Within(worker int) *Pool {
	if p.serial == nil {
		return p
	}
	return &p.serial[worker]
}

// Run calls f(task, worker) for each task in [0, tasks) and waits for all of them; the caller works too.
// After Close it still does, alone.
func (p *Pool) Run(tasks int, f func(task, worker int)) {
	if p.serial == nil {
		for t := range tasks {
			f(t, p.fixed)
		}
		return
	}
	p.turn.Lock()
	defer p.turn.Unlock()
	p.f, p.tasks = f, int64(tasks)
	p.next.Store(0)
	if helpers := min(len(p.helpers), tasks-1); helpers > 0 {
		p.open(helpers)
		p.drain(0)
		p.shut()
	} else {
		p.drain(0)
	}
	p.f = nil
	if failure := p.failed.Swap(nil); failure != nil {
		panic(failure)
	}
}

// open lets helpers into the run and wakes as many as it can use.
func (p *Pool) open(helpers int) {
	p.word.Store(p.word.Load()/epochUnit*epochUnit + epochUnit + openBit)
	for _, h := range p.helpers[:helpers] {
		h.unpark()
	}
}

// shut keeps helpers out and waits for those inside.
func (p *Pool) shut() {
	p.word.And(^uint64(openBit))
	for polls := 1; p.word.Load()&insideMask != 0; polls++ {
		if polls%spinPolls == 0 {
			runtime.Gosched()
		}
	}
}

// Close ends the helpers and waits until they are gone.
func (p *Pool) Close() {
	p.closed.Store(true)
	for _, h := range p.helpers {
		h.unpark()
	}
	p.exited.Wait()
}

// help is the life of one helper.
func (p *Pool) help(h *helper, worker int) {
	seen := uint64(0)
	for p.await(h, seen) {
		word := p.word.Load()
		if word&openBit == 0 || word/epochUnit == seen || !p.word.CompareAndSwap(word, word+1) {
			continue
		}
		seen = word / epochUnit
		p.drain(worker)
		p.word.Add(^uint64(0))
	}
}

// await returns when a run with another epoch than seen is open (or has just been), or false after Close.
func (p *Pool) await(h *helper, seen uint64) bool {
	for {
		for range spinRounds {
			for range spinPolls {
				if p.beckons(seen) {
					return true
				}
			}
			if p.closed.Load() {
				return false
			}
			runtime.Gosched()
		}
		h.parked.Store(true)
		// A run posted before parked was visible sends no wake-up: look once more.
		if (p.beckons(seen) || p.closed.Load()) && h.parked.CompareAndSwap(true, false) {
			continue
		}
		<-h.wake
	}
}

func (p *Pool) beckons(seen uint64) bool {
	word := p.word.Load()
	return word&openBit != 0 && word/epochUnit != seen
}

func (h *helper) unpark() {
	if h.parked.Load() && h.parked.CompareAndSwap(true, false) {
		h.wake <- struct{}{}
	}
}

// drain takes tasks until there are none left.
func (p *Pool) drain(worker int) {
	defer p.catch()
	for {
		t := p.next.Add(1) - 1
		if t >= p.tasks {
			return
		}
		p.f(int(t), worker)
	}
}

// catch turns a panic of a task into the failure of the run. The first one counts.
func (p *Pool) catch() {
	if value := recover(); value != nil {
		p.failed.CompareAndSwap(nil, newTaskPanic(value))
		p.next.Store(p.tasks)
	}
}
