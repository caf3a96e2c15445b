package op

import (
	"fmt"
	"math/rand/v2"
	"testing"

	G "gorgonia.org/gorgonia"
)

// kit builds a graph together with the values of its inputs, which are exact in
// float32 so that every way of running the graph starts from the same numbers.
type kit struct {
	*Builder
	rng    *rand.Rand
	values map[*G.Node][]float64
	leaves []*G.Node // in the order they were made
	wrt    []*G.Node // those that are differentiated
}

func newKit(seed uint64) *kit {
	return &kit{Builder: NewBuilder(), rng: rand.New(rand.NewPCG(seed, 1)), values: map[*G.Node][]float64{}}
}

// fixed adds a float input that is not differentiated.
func (k *kit) fixed(name string, shape ...int) *G.Node {
	n := k.Input(name, shape...)
	v := make([]float64, n.Shape().TotalSize())
	for i := range v {
		v[i] = float64(float32(k.rng.NormFloat64()))
	}
	return k.keep(n, v)
}

// float adds a float input that is differentiated.
func (k *kit) float(name string, shape ...int) *G.Node {
	n := k.fixed(name, shape...)
	k.wrt = append(k.wrt, n)
	return n
}

func (k *kit) ints(name string, values []int, shape ...int) *G.Node {
	v := make([]float64, len(values))
	for i, x := range values {
		v[i] = float64(x)
	}
	return k.keep(k.Ints(name, shape...), v)
}

func (k *kit) keep(n *G.Node, v []float64) *G.Node {
	k.values[n] = v
	k.leaves = append(k.leaves, n)
	return n
}

// below draws count integers below n.
func (k *kit) below(n, count int) []int {
	v := make([]int, count)
	for i := range v {
		v[i] = k.rng.IntN(n)
	}
	return v
}

// docs adds the document ids of batch rows: the first is one document, others
// are cut at random and end in padding.
func (k *kit) docs(batch, length int) *G.Node {
	ids := make([]int, 0, batch*length)
	for b := 0; b < batch; b++ {
		doc := 0
		for t := 0; t < length; t++ {
			if b > 0 && t > 0 && k.rng.IntN(3) == 0 {
				doc++
			}
			if b > 0 && t > 0 && t >= length-b {
				doc = -1
			}
			ids = append(ids, doc)
		}
	}
	return k.ints("docs", ids, batch, length)
}

// differentiated is a built case with its gradients.
type differentiated struct {
	*kit
	outs, grads []*G.Node // grads in the order of wrt
	rest        []*G.Node // outputs without gradient
	seeds       []*G.Node
}

// outputs are all results.
func (d *differentiated) outputs() []*G.Node {
	all := append([]*G.Node(nil), d.outs...)
	return append(append(all, d.rest...), d.grads...)
}

// differentiate builds a case and the gradient of sum_i <seed_i, out_i>.
func differentiate(t testing.TB, c opCase, s size) *differentiated {
	t.Helper()
	k := newKit(uint64(len(c.name)) + 17)
	d := &differentiated{kit: k}
	d.outs, d.rest = c.build(k, s)
	d.addGradients(t)
	return d
}

func (d *differentiated) addGradients(t testing.TB) {
	t.Helper()
	if len(d.outs) == 0 {
		return
	}
	for i, o := range d.outs {
		d.seeds = append(d.seeds, d.fixed(fmt.Sprintf("seed.%d", i), o.Shape()...))
	}
	var err error
	if d.grads, err = d.Gradients(d.outs, d.seeds, d.wrt); err != nil {
		t.Fatal(err)
	}
}

// evaluate runs the references in float64.
func (d *differentiated) evaluate(t testing.TB, nodes ...*G.Node) [][]float64 {
	t.Helper()
	v, err := Evaluate(d.Graph(), d.values, nodes...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
