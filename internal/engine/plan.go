package engine

import (
	"fmt"
	"maps"
)

// Options fit a program to a device.
type Options struct {
	// Compute is the type of Act values: Float32 or BFloat16.
	Compute DType
	// Recompute trades time for memory in the backward pass.
	Recompute Recompute
	// NoReuse gives every value memory of its own: the oracle of the layout.
	NoReuse bool
	// Bind places inputs and outputs in memory of the caller: weights,
	// gradients and states live in flat buffers. Other inputs get memory of
	// their own, which Tensor returns.
	Bind map[ValueID]*Tensor
	// Exchange has the kernels of operators in which ranks exchange data, which no
	// backend can have.
	Exchange map[string]Kernel
	// Arena is memory of the caller to lay the plan out in, nil for memory of its own.
	// Plans that never run at the same time may share it.
	Arena *Tensor
}

// Usage is the memory of a plan, in bytes.
type Usage struct {
	Arena    int64 // the arena as laid out
	PeakLive int64 // the most alive at one instruction, a floor for Arena
	Sum      int64 // all values without any reuse
	Inputs   int64 // inputs that the caller did not place
}

// Plan is a program bound to a backend.
type Plan struct {
	prog    *Program
	backend Backend
	tensors []*Tensor
	calls   []*Call
	steps   []func() error
	hooks   [][]func()
	memory  []Memory
	usage   Usage

	started   bool      // it has run
	plain     bool      // it cannot be recorded
	watched   bool      // somebody looks at each instruction
	recording Recording // of the whole plan; nil before the second run
}

// NewPlan lays the program out in one arena and binds its kernels.
func NewPlan(prog *Program, be Backend, opt Options) (*Plan, error) {
	prog = prog.withRecompute(opt.Recompute)
	p := &Plan{prog: prog, backend: be, tensors: make([]*Tensor, len(prog.Values)), hooks: make([][]func(), len(prog.Instrs))}
	if err := p.declare(opt); err != nil {
		return nil, err
	}
	kernels, err := p.makeCalls(opt)
	if err != nil {
		return nil, err
	}
	if err := p.layout(opt, kernels); err != nil {
		p.Close()
		return nil, err
	}
	for i, k := range kernels {
		step, err := k.Bind(p.calls[i])
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("plan: bind %s (instruction %d): %w", p.calls[i].Kernel, i, err)
		}
		p.steps = append(p.steps, step)
	}
	return p, nil
}

// declare makes a tensor, still without memory, for every value.
func (p *Plan) declare(opt Options) error {
	for i := range p.prog.Values {
		v := &p.prog.Values[i]
		if t := opt.Bind[ValueID(i)]; t != nil {
			if t.Size() != v.Size() {
				return fmt.Errorf("plan: %s is bound to %v, want shape %v", v.Name, t, v.Shape)
			}
			bound := *t
			bound.Shape = v.Shape
			p.tensors[i] = &bound
			continue
		}
		dt := Float32
		switch v.Class {
		case Act:
			dt = opt.Compute
		case I32:
			dt = Int32
		}
		p.tensors[i] = &Tensor{Shape: v.Shape, DType: dt}
	}
	if err := p.matchUpdates(opt); err != nil {
		return err
	}
	for i := range p.prog.Values { // a view has the type of what it looks at
		p.tensors[i].DType = p.tensors[p.prog.root(ValueID(i))].DType
	}
	return nil
}

// matchUpdates gives an output that updates a value that value's type, as they
// share memory. Where the output is bound, it is the value that follows, through
// all the sums that lead to it.
func (p *Plan) matchUpdates(opt Options) error {
	bound := maps.Clone(opt.Bind)
	for i := len(p.prog.Instrs) - 1; i >= 0; i-- {
		for _, up := range p.updates(i) {
			is, was := bound[up.out], bound[up.in]
			if is == nil {
				continue
			}
			if p.prog.Values[up.in].Base >= 0 || was != nil && (was.Mem != is.Mem || was.Off != is.Off || was.DType != is.DType) {
				return fmt.Errorf("plan: %s updates %s, which is bound to other memory", p.prog.Values[up.out].Name, p.prog.Values[up.in].Name)
			}
			bound[up.in] = is
			p.tensors[up.in].DType = is.DType
		}
	}
	for i := range p.prog.Instrs {
		for _, up := range p.updates(i) {
			p.tensors[up.out].DType = p.tensors[p.prog.root(up.in)].DType
		}
	}
	return nil
}

// update is an output that takes the memory of a value.
type update struct{ in, out ValueID }

func (p *Plan) updates(i int) (all []update) {
	in := &p.prog.Instrs[i]
	for j, v := range in.Out {
		if u := in.Outs[j].Updates; u > 0 && v >= 0 {
			all = append(all, update{in.In[u-1], v})
		}
	}
	return all
}

func (p *Plan) makeCalls(opt Options) ([]Kernel, error) {
	var kernels []Kernel
	for i := range p.prog.Instrs {
		in := &p.prog.Instrs[i]
		k, ok := opt.Exchange[in.Kernel]
		if !ok {
			k, ok = p.backend.Kernel(in.Kernel)
		}
		if !ok {
			return nil, fmt.Errorf("plan: backend %s has no kernel %q", p.backend.Name(), in.Kernel)
		}
		c := &Call{Kernel: in.Kernel, Attrs: in.Attrs}
		for _, v := range in.In {
			c.In = append(c.In, p.tensors[v])
		}
		for _, v := range in.Out {
			var t *Tensor
			if v >= 0 {
				t = p.tensors[v]
			}
			c.Out = append(c.Out, t)
		}
		p.calls = append(p.calls, c)
		kernels = append(kernels, k)
	}
	return kernels, nil
}

// layout gives every tensor its memory.
func (p *Plan) layout(opt Options, kernels []Kernel) error {
	l := newLayout(p, opt)
	stores := l.storages()
	for i, k := range kernels {
		if n := k.Scratch(p.calls[i]); n > 0 {
			s := &storage{bytes: 4 * int64(n), start: i, end: i}
			p.calls[i].Scratch = &Tensor{Shape: []int{n}, DType: Float32}
			stores = append(stores, s)
			l.scratch[i] = s
		}
	}
	p.usage.PeakLive = peakLive(stores)
	for _, s := range stores {
		p.usage.Sum += roundUp(s.bytes)
	}
	p.usage.Sum += l.shared
	p.usage.Arena = place(stores, !opt.NoReuse)
	arena, err := p.arena(opt.Arena)
	if err != nil {
		return err
	}
	for i, c := range p.calls {
		if s := l.scratch[i]; s != nil {
			c.Scratch.Mem, c.Scratch.Off = arena.Mem, arena.Off+s.off
		}
	}
	return l.assign(arena)
}

// arena returns the memory to lay out in.
func (p *Plan) arena(given *Tensor) (*Tensor, error) {
	if given == nil {
		mem, err := p.alloc(p.usage.Arena)
		return &Tensor{Mem: mem}, err
	}
	if given.Bytes() < p.usage.Arena || given.Off%align != 0 {
		return nil, fmt.Errorf("plan: %d bytes at %d are no arena of %d", given.Bytes(), given.Off, p.usage.Arena)
	}
	return given, nil
}

func (p *Plan) alloc(bytes int64) (Memory, error) {
	m, err := p.backend.Alloc(bytes)
	if err != nil {
		return nil, fmt.Errorf("plan: %d MiB on %s: %w", bytes>>20, p.backend.Name(), err)
	}
	p.memory = append(p.memory, m)
	return m, nil
}

// Run executes the plan once. From the second time on it allocates nothing, and a
// device that can starts the plan as one.
func (p *Plan) Run() error {
	if p.started && !p.plain && p.recording == nil {
		p.record()
	}
	if p.recording != nil && !p.watched {
		return p.recording.Start()
	}
	p.started = true
	return p.RunRange(0, len(p.steps))
}

// RunRange executes instructions [from, to).
func (p *Plan) RunRange(from, to int) error {
	for i := from; i < to; i++ {
		if err := p.steps[i](); err != nil {
			return fmt.Errorf("run %s (instruction %d): %w", p.calls[i].Kernel, i, err)
		}
		for _, f := range p.hooks[i] {
			f()
		}
	}
	return nil
}

// OnReady calls f in every run as soon as a value has been computed, so that a
// gradient can leave while the backward pass goes on.
func (p *Plan) OnReady(v ValueID, f func()) {
	last := -1
	for i := range p.prog.Instrs {
		for _, o := range p.prog.Instrs[i].Out {
			if o >= 0 && p.prog.root(o) == p.prog.root(v) {
				last = i
			}
		}
	}
	if last < 0 {
		panic(fmt.Sprintf("engine: OnReady(%s): not computed by the plan", p.prog.Values[v].Name))
	}
	p.forget()
	p.hooks[last] = append(p.hooks[last], f)
}

// Segment is a run of instructions between exchanges, or one exchange.
type Segment struct {
	From, To int
	Exchange bool
}

// Segments cuts the plan where ranks exchange data.
func (p *Plan) Segments() []Segment {
	var segs []Segment
	from := 0
	for i := range p.prog.Instrs {
		if !p.prog.Instrs[i].Exchange {
			continue
		}
		if i > from {
			segs = append(segs, Segment{From: from, To: i})
		}
		segs = append(segs, Segment{From: i, To: i + 1, Exchange: true})
		from = i + 1
	}
	if from < len(p.prog.Instrs) {
		segs = append(segs, Segment{From: from, To: len(p.prog.Instrs)})
	}
	return segs
}

// Tensor returns where a value lives. Values inside the graph are overwritten
// as the plan runs; inputs and outputs are not.
func (p *Plan) Tensor(v ValueID) *Tensor { return p.tensors[v] }

// Calls lists the kernel calls in execution order, for profiles and listings.
func (p *Plan) Calls() []*Call { return p.calls }

// Usage returns the plan's memory.
func (p *Plan) Usage() Usage { return p.usage }

// Close frees the plan's memory.
func (p *Plan) Close() {
	p.forget()
	for _, m := range p.memory {
		p.backend.Free(m)
	}
	p.memory = nil
}
