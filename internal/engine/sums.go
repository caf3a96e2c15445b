package engine

import "sort"

// hoistSums moves sums of gradients, and updates of running sums, up to where
// their last operand is computed. In the graph they come after the whole backward
// pass, as only then are all gradients known; there they would keep alive what
// they add up, and gradients would be ready late.
func (p *Program) hoistSums() {
	anchor := make([]int, len(p.Instrs)) // the instruction that each follows
	lastUse := map[ValueID]int{}         // anchor of the last use of a value so far
	order := make([]int, len(p.Instrs))
	for i := range p.Instrs {
		in := &p.Instrs[i]
		order[i], anchor[i] = i, i
		if at := p.lastOperand(in, anchor, lastUse); in.isSum() && at >= 0 {
			anchor[i] = at
		}
		for _, v := range in.In {
			r := p.root(v)
			lastUse[r] = max(lastUse[r], anchor[i])
		}
	}
	sort.SliceStable(order, func(i, j int) bool { return anchor[order[i]] < anchor[order[j]] })
	instrs := p.Instrs
	p.Instrs = make([]Instr, 0, len(instrs))
	for _, i := range order {
		p.append(instrs[i])
	}
}

func (in *Instr) isSum() bool {
	return in.Kernel == "add" && (in.Backward || in.Outs[0].Updates > 0)
}

// lastOperand returns the anchor of the last instruction that has to run before
// a sum: those that compute its operands, and those that use what it updates.
func (p *Program) lastOperand(in *Instr, anchor []int, lastUse map[ValueID]int) int {
	last := -1
	for j, v := range in.In {
		r := p.root(v)
		if def := p.Values[r].Def; def >= 0 {
			last = max(last, anchor[def])
		}
		if at, used := lastUse[r]; used && in.Outs[0].Updates == j+1 {
			last = max(last, at)
		}
	}
	return last
}

// fuseAccumulate rewrites add(a, product) into a matrix product that accumulates
// into a, one pass over the sum less: where a dies in the sum, or is a running
// sum that the add updates. The product must be the later of the two: it runs
// where the sum did, and would keep its own operands alive until then.
func (p *Program) fuseAccumulate() {
	uses := p.useCounts()
	dead := map[int]bool{}
	for i := range p.Instrs {
		add := &p.Instrs[i]
		if add.Kernel != "add" {
			continue
		}
		for side := 1; side >= 0; side-- {
			def := p.Values[add.In[side]].Def
			if def < 0 || dead[def] || !p.fusible(add, side, uses) {
				continue
			}
			prod := p.Instrs[def]
			out := add.Outs[0]
			out.InPlace, out.Updates = nil, len(prod.In)+1
			in := append(append([]ValueID(nil), prod.In...), add.In[1-side])
			*add = Instr{Spec: prod.Spec, In: in, Out: add.Out}
			add.Outs = []Out{out}
			add.Attrs = append(append(Attrs(nil), prod.Attrs...), Attr{"accumulate", 1})
			dead[def] = true
			break
		}
	}
	p.remove(dead)
}

// fusible says whether operand side of an add is a product that nobody else
// reads, and the other operand memory that it may be added to.
func (p *Program) fusible(add *Instr, side int, uses []int) bool {
	prod, acc := add.In[side], add.In[1-side]
	in := &p.Instrs[p.Values[prod].Def]
	if in.Kernel != "matmul" && in.Kernel != "grouped_matmul_dw" || in.Attrs.Bool("accumulate") || uses[prod] != 1 ||
		p.Values[prod].Def <= p.Values[acc].Def {
		return false
	}
	updated := add.Outs[0].Updates == 2-side
	return updated || p.Values[acc].Def >= 0 && uses[acc] == 1
}

// useCounts returns how often each value is read, outputs of the program and
// views included.
func (p *Program) useCounts() []int {
	uses := make([]int, len(p.Values))
	for i := range p.Instrs {
		for _, v := range p.Instrs[i].In {
			uses[v]++
		}
	}
	for i := range p.Values {
		if b := p.Values[i].Base; b >= 0 {
			uses[b]++
		}
	}
	for _, v := range p.Outputs {
		uses[v]++
	}
	return uses
}

// remove drops instructions and renumbers the definitions.
func (p *Program) remove(dead map[int]bool) {
	instrs := p.Instrs
	p.Instrs = make([]Instr, 0, len(instrs))
	for i, in := range instrs {
		if !dead[i] {
			p.append(in)
		}
	}
}
