package engine

import "fmt"

// layout decides which values share memory, and for how long it is needed.
type layout struct {
	p       *Plan
	opt     Options
	of      []*storage // by value; nil for values that are never touched
	lastUse []int      // by value: last instruction that reads it
	scratch map[int]*storage
	shared  int64 // bytes that in-place results would take without reuse
}

func newLayout(p *Plan, opt Options) *layout {
	l := &layout{p: p, opt: opt, of: make([]*storage, len(p.prog.Values)),
		lastUse: make([]int, len(p.prog.Values)), scratch: map[int]*storage{}}
	for i := range l.lastUse {
		l.lastUse[i] = -1
	}
	for i := range p.prog.Instrs {
		for _, v := range p.prog.Instrs[i].In {
			r := p.prog.root(v)
			l.lastUse[r] = max(l.lastUse[r], i)
		}
	}
	for _, v := range p.prog.Outputs { // outputs outlive the run
		l.lastUse[p.prog.root(v)] = len(p.prog.Instrs)
	}
	return l
}

// storages returns the storages that belong in the arena.
func (l *layout) storages() []*storage {
	prog := l.p.prog
	for _, v := range prog.Inputs {
		l.of[v] = &storage{bytes: l.p.tensors[v].Bytes(), start: -1, end: len(prog.Instrs), external: l.opt.Bind[v]}
	}
	var all []*storage
	for i := range prog.Instrs {
		in := &prog.Instrs[i]
		for j, v := range in.Out {
			if v < 0 {
				continue
			}
			s := l.takeOver(i, in, j)
			if s == nil {
				s = &storage{bytes: l.p.tensors[v].Bytes(), start: i, end: i, external: l.opt.Bind[v]}
				all = append(all, s)
			}
			s.end = max(s.end, i, l.lastUse[v])
			l.of[v] = s
		}
	}
	arena := all[:0]
	for _, s := range all {
		if s.external == nil {
			arena = append(arena, s)
		}
	}
	return arena
}

// takeOver returns the storage of an input that output j takes: because the
// operator updates it, or because it dies here and the operator allows it.
func (l *layout) takeOver(i int, in *Instr, j int) *storage {
	out := in.Outs[j]
	bound := l.opt.Bind[in.Out[j]]
	if out.Updates > 0 {
		s := l.of[l.p.prog.root(in.In[out.Updates-1])]
		if bound != nil {
			s.external = bound
		}
		return s
	}
	if l.opt.NoReuse {
		return nil
	}
	for _, k := range out.InPlace {
		v := in.In[k]
		val := &l.p.prog.Values[v]
		s := l.of[l.p.prog.root(v)]
		if val.Base >= 0 || val.Def < 0 || s.external != nil || bound != nil || s.end != i ||
			l.p.tensors[v].Bytes() != l.p.tensors[in.Out[j]].Bytes() || s.bytes != l.p.tensors[v].Bytes() || l.readTwice(in, s, k) {
			continue
		}
		l.shared += roundUp(s.bytes)
		return s
	}
	return nil
}

// readTwice says whether another operand of the instruction, or another of its
// outputs, already lives in the storage.
func (l *layout) readTwice(in *Instr, s *storage, k int) bool {
	for j, v := range in.In {
		if j != k && l.of[l.p.prog.root(v)] == s {
			return true
		}
	}
	for _, v := range in.Out {
		if v >= 0 && l.of[v] == s {
			return true
		}
	}
	return false
}

// assign points every tensor at its memory.
func (l *layout) assign(arena *Tensor) error {
	prog := l.p.prog
	for _, v := range prog.Inputs {
		t := l.p.tensors[v]
		if l.of[v].external != nil {
			continue
		}
		m, err := l.p.alloc(roundUp(t.Bytes()))
		if err != nil {
			return err
		}
		l.p.usage.Inputs += roundUp(t.Bytes())
		l.of[v].external = &Tensor{Shape: t.Shape, DType: t.DType, Mem: m}
	}
	for i := range prog.Values {
		r := prog.root(ValueID(i))
		s := l.of[r]
		if s == nil {
			continue // a forward value that recomputation replaced everywhere
		}
		mem, off := arena.Mem, arena.Off+s.off
		if s.external != nil {
			mem, off = s.external.Mem, s.external.Off
		}
		t := l.p.tensors[i]
		t.Mem, t.Off = mem, off+l.viewOffset(ValueID(i))*t.DType.Bytes()
		if t.Off+t.Bytes() > mem.Bytes() {
			return fmt.Errorf("plan: %s lies outside its memory: %d + %d > %d bytes", prog.Values[i].Name, t.Off, t.Bytes(), mem.Bytes())
		}
	}
	return nil
}

// viewOffset is the element at which v starts in its storage: a view lies within
// its base, and an output that updates a view lies where the view does.
func (l *layout) viewOffset(v ValueID) int64 {
	val := &l.p.prog.Values[v]
	if val.Base >= 0 {
		return l.viewOffset(val.Base) + int64(val.Offset)
	}
	if val.Def >= 0 {
		in := &l.p.prog.Instrs[val.Def]
		if u := in.Outs[val.Out].Updates; u > 0 {
			return l.viewOffset(in.In[u-1])
		}
	}
	return 0
}
