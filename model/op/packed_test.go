package op

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// packedCase is an operator over documents. perToken and shared give the widths
// of its inputs by token and the shapes of its weights.
type packedCase struct {
	name     string
	perToken map[string]int
	shared   map[string][]int
	build    func(k *kit, in map[string]*G.Node, docs *G.Node, targets *G.Node) nodes
}

var packedHeads = Heads{Heads: 4, KVHeads: 2, HeadDim: 4}

var packedCases = []packedCase{
	{"conv1d", map[string]int{"x": 3}, map[string][]int{"w": {3, 4}, "bias": {3}},
		func(k *kit, in map[string]*G.Node, docs, _ *G.Node) nodes {
			y, _ := k.Conv1D(in["x"], in["w"], in["bias"], docs, nil, docs.Shape()[0], docs.Shape()[1])
			return nodes{y}
		}},
	{"selective_scan", map[string]int{"x": 3, "dt": 3, "z": 3, "b": 2, "c": 2}, map[string][]int{"bias": {3}, "alog": {3, 2}, "d": {3}},
		func(k *kit, in map[string]*G.Node, docs, _ *G.Node) nodes {
			y, _ := k.SelectiveScan(ScanInputs{X: in["x"], Dt: in["dt"], Bias: in["bias"], ALog: in["alog"], B: in["b"], C: in["c"],
				D: in["d"], Z: in["z"], Docs: docs}, docs.Shape()[0], docs.Shape()[1], 4)
			return nodes{y}
		}},
	{"attention", map[string]int{"qkv": packedHeads.Width()}, nil,
		func(k *kit, in map[string]*G.Node, docs, _ *G.Node) nodes {
			return nodes{k.Attention(in["qkv"], docs, packedHeads)}
		}},
	{"rope", map[string]int{"qkv": packedHeads.Width()}, nil,
		func(k *kit, in map[string]*G.Node, docs, _ *G.Node) nodes {
			return nodes{k.Rope(in["qkv"], docs, nil, packedHeads, 100)}
		}},
	{"cross_entropy", map[string]int{"logits": 7}, nil,
		func(k *kit, in map[string]*G.Node, _, targets *G.Node) nodes {
			loss, _ := k.CrossEntropy(in["logits"], targets)
			return nodes{loss}
		}},
}

// packing is rows of documents; a document alone is a packing of one.
type packing struct {
	lengths [][]int // of the documents in each row; all rows are equally long
	first   int     // token of the whole at which this one starts
}

func (p packing) docs() (ids []int) {
	for _, row := range p.lengths {
		for d, n := range row {
			for i := 0; i < n; i++ {
				ids = append(ids, d)
			}
		}
	}
	return ids
}

// TestPackedDocuments: documents that share a row get the outputs and gradients
// that each has alone; those of weights add up.
func TestPackedDocuments(t *testing.T) {
	t.Parallel()
	whole := packing{lengths: [][]int{{1, 2, 9, 5}, {6, 3, 1, 7}}}
	tokens := len(whole.docs())
	for _, c := range packedCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			values := packedValues(c, tokens)
			want := map[string][]float64{}
			at := 0
			for _, row := range whole.lengths {
				for _, n := range row {
					alone := runPacked(t, c, packing{lengths: [][]int{{n}}, first: at}, tokens, values)
					for name, v := range alone {
						want[name] = joinPacked(c, name, want[name], v)
					}
					at += n
				}
			}
			for name, got := range runPacked(t, c, whole, tokens, values) {
				if e := relativeError(got, want[name]); len(got) != len(want[name]) || e > 1e-13 {
					t.Errorf("%s: off by %.1e of its largest element", name, e)
				}
			}
		})
	}
}

// joinPacked appends what is by token and adds up the rest.
func joinPacked(c packedCase, name string, sum, v []float64) []float64 {
	_, weight := c.shared[name]
	if !weight && len(v) > 1 {
		return append(sum, v...)
	}
	if sum == nil {
		return v
	}
	for i := range sum {
		sum[i] += v[i]
	}
	return sum
}

func packedValues(c packedCase, tokens int) map[string][]float64 {
	k := newKit(3)
	values := map[string][]float64{}
	draw := func(name string, n int) {
		values[name] = k.values[k.fixed(name, n)]
	}
	for _, name := range slices.Sorted(maps.Keys(c.perToken)) {
		draw(name, tokens*c.perToken[name])
	}
	for _, name := range slices.Sorted(maps.Keys(c.shared)) {
		draw(name, engine.Size(c.shared[name]))
	}
	draw("seed", tokens*packedHeads.Width())
	draw("seed of a sum", 1)
	return values
}

// runPacked returns the outputs and gradients by name.
func runPacked(t *testing.T, c packedCase, p packing, tokens int, values map[string][]float64) map[string][]float64 {
	t.Helper()
	ids := p.docs()
	n := len(ids)
	rows := len(p.lengths)
	k := newKit(4)
	d := &differentiated{kit: k}
	cut := func(name string, width int) []float64 { return values[name][p.first*width : (p.first+n)*width] }
	in := map[string]*G.Node{}
	for name, width := range c.perToken {
		in[name] = k.keep(k.Input(name, n, width), cut(name, width))
		k.wrt = append(k.wrt, in[name])
	}
	for name, shape := range c.shared {
		in[name] = k.keep(k.Input(name, shape...), values[name])
		k.wrt = append(k.wrt, in[name])
	}
	targets := make([]int, n)
	for i := range targets {
		targets[i] = (p.first + i) * 5 % 7
	}
	d.outs = c.build(k, in, k.ints("docs", ids, rows, n/rows), k.ints("targets", targets, rows, n/rows))
	for i, o := range d.outs {
		seed := values["seed of a sum"]
		if width := o.Shape().TotalSize() / n; o.Shape().TotalSize() > 1 {
			seed = cut("seed", width)
		}
		d.seeds = append(d.seeds, k.keep(k.Input(fmt.Sprintf("seed.%d", i), o.Shape()...), seed))
	}
	grads, err := k.Gradients(d.outs, d.seeds, k.wrt)
	if err != nil {
		t.Fatal(err)
	}
	results := map[string][]float64{}
	for i, v := range d.evaluate(t, d.outs...) {
		results[fmt.Sprintf("output %d", i)] = v
	}
	for i, v := range d.evaluate(t, grads...) {
		results[k.wrt[i].Name()] = v
	}
	return results
}
