package op

import (
	"fmt"
	"testing"

	"jambalaya/internal/engine"
)

// sumLayers and sumWidth are the size of sumStack.
const sumLayers, sumWidth = 8, 32

// sumStack is a stack of layers and its gradients, added to running sums if asked for.
func sumStack(t testing.TB, accumulate bool) (k *kit, results nodes) {
	t.Helper()
	const rows = 4
	k = newKit(1)
	x := k.fixed("x", rows, sumWidth)
	for i := range sumLayers {
		end := k.Layer(i)
		x = k.AddBias(k.MatMul(k.RMSNorm(x, k.float(fmt.Sprintf("norm%d", i), sumWidth), 1e-5),
			k.float(fmt.Sprintf("w%d", i), sumWidth, sumWidth), false, true), k.float(fmt.Sprintf("b%d", i), sumWidth))
		end()
	}
	grads, err := k.Gradients(nodes{x}, nodes{k.fixed("seed", rows, sumWidth)}, k.wrt)
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range grads {
		if accumulate {
			g = k.Accumulate(k.fixed("sum."+k.wrt[i].Name(), g.Shape()...), g)
		}
		results = append(results, g)
	}
	return k, results
}

// bindResults gives every result of sumStack memory of its own, which its sum is in.
func bindResults(t testing.TB, k *kit, be engine.Backend, results nodes) map[engine.ValueID]*engine.Tensor {
	t.Helper()
	prog, err := engine.Lower(k.Graph(), results...)
	if err != nil {
		t.Fatal(err)
	}
	bind := map[engine.ValueID]*engine.Tensor{}
	for i, r := range results {
		m, err := be.Alloc(int64(4 * r.Shape().TotalSize()))
		if err != nil {
			t.Fatal(err)
		}
		tensor := &engine.Tensor{Shape: r.Shape(), Mem: m}
		id, _ := prog.Value(r)
		bind[id] = tensor
		if sum := k.Lookup("sum." + k.wrt[i].Name()); sum != nil {
			id, _ = prog.Value(sum)
			bind[id] = tensor
		}
	}
	return bind
}

// TestRunningSumsAreTakenEarly: gradients that are accumulated over micro-batches
// go into their sums as the backward pass makes them, so that accumulation costs
// no memory in the arena, and the last layer's sums are ready first.
func TestRunningSumsAreTakenEarly(t *testing.T) {
	t.Parallel()
	arena := map[bool]int64{}
	for _, accumulate := range []bool{false, true} {
		k, results := sumStack(t, accumulate)
		be := newRefBackend(k.Graph())
		p := compile(t, k, be, engine.Options{Bind: bindResults(t, k, be, results)}, results...)
		arena[accumulate] = p.plan.Usage().Arena
		if first, last := made(p, len(results)-1), made(p, 0); first >= last-sumLayers {
			t.Errorf("accumulate %t: the gradients of the last layer come at %d, those of the first at %d", accumulate, first, last)
		}
		p.wantDefined(t, results...)
	}
	if arena[true] > arena[false]+1024 {
		t.Errorf("accumulation takes an arena of %d bytes, without it %d", arena[true], arena[false])
	}
}

// TestSumsKeepTheirPrecision: the gradients that gorgonia adds up for a value in
// fp32, here the router's weights, stay in fp32 where activations are bf16.
func TestSumsKeepTheirPrecision(t *testing.T) {
	t.Parallel()
	k := newKit(1)
	d := &differentiated{kit: k}
	_, weights, index := k.RouterTopK(k.float("logits", 3, 4), 2, false)
	r := k.ExpertSort(index, 4)
	ys := k.float("ys", 6, 5)
	d.outs = nodes{k.Combine(ys, weights, r), k.Combine(ys, weights, r)}
	d.addGradients(t)
	p := compile(t, k, newRefBackend(k.Graph()), engine.Options{Compute: engine.BFloat16}, d.outputs()...)
	sums := map[engine.DType]int{}
	for _, c := range p.plan.Calls() {
		if c.Kernel == "add" {
			sums[c.Out[0].DType]++
			if c.In[0].DType != c.Out[0].DType {
				t.Errorf("a sum of %v is stored as %v", c.In[0], c.Out[0])
			}
		}
	}
	if sums[engine.Float32] != 1 || sums[engine.BFloat16] != 1 {
		t.Errorf("sums by type: %v, want one of the weights' gradients and one of ys'", sums)
	}
}
