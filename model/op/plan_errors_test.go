package op

import (
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// TestPlanErrors: what cannot be planned says so, and frees what it took.
func TestPlanErrors(t *testing.T) {
	t.Parallel()
	k := newKit(1)
	x, sum := k.fixed("x", 4, 4), k.fixed("sum", 4, 4)
	total := k.Accumulate(sum, x)
	whole := k.fixed("whole", 32)
	part := k.Accumulate(k.Slice(whole, 16, 16), k.fixed("y", 16))
	be := newRefBackend(k.Graph())
	prog, err := engine.Lower(k.Graph(), total, part)
	if err != nil {
		t.Fatal(err)
	}
	id := func(n *G.Node) engine.ValueID { v, _ := prog.Value(n); return v }
	m, err := be.Alloc(1024)
	if err != nil {
		t.Fatal(err)
	}
	at := func(off int64, n int) *engine.Tensor { return &engine.Tensor{Shape: []int{n}, Mem: m, Off: off} }
	before := be.allocated
	for _, c := range []struct {
		name, want string
		be         engine.Backend
		bind       map[engine.ValueID]*engine.Tensor
	}{
		{"no kernel", `no kernel "add"`, &refBackend{}, nil},
		{"wrong size", "x is bound to float32[15], want shape [4 4]", be, map[engine.ValueID]*engine.Tensor{id(x): at(0, 15)}},
		{"outside", "x lies outside its memory", be, map[engine.ValueID]*engine.Tensor{id(x): at(1000, 16)}},
		{"two places", "updates sum, which is bound to other memory", be, map[engine.ValueID]*engine.Tensor{id(sum): at(0, 16), id(total): at(64, 16)}},
		{"update of a slice", "updates slice, which is bound to other memory", be, map[engine.ValueID]*engine.Tensor{id(part): at(0, 16)}},
	} {
		_, err := engine.NewPlan(prog, c.be, engine.Options{Bind: c.bind})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if be.allocated != before {
		t.Errorf("failed plans hold %d bytes", be.allocated-before)
	}
	p, err := engine.NewPlan(prog, be, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	p.Close()
	if be.allocated != before {
		t.Errorf("a closed plan holds %d bytes", be.allocated-before)
	}
}

// TestLowerErrors: nodes of gorgonia's own, packed outputs.
func TestLowerErrors(t *testing.T) {
	t.Parallel()
	k := newKit(1)
	x := k.fixed("x", 4, 4)
	if _, err := engine.Lower(k.Graph(), G.Must(G.Tanh(x))); err == nil || !strings.Contains(err.Error(), "not Lowerable") {
		t.Errorf("tanh of gorgonia: %v", err)
	}
	y, _ := k.AddRMSNorm(x, x, k.fixed("w", 4), 1e-5)
	if _, err := engine.Lower(k.Graph(), childrenOf(k.Graph(), y)[0]); err == nil || !strings.Contains(err.Error(), "several outputs") {
		t.Errorf("a packed operator as output: %v", err)
	}
}
