package bench

import (
	"fmt"
	"slices"
	"strings"

	"jambalaya/internal/engine"
	"jambalaya/model"
	"jambalaya/model/op"
	"jambalaya/model/op/solo"
	"jambalaya/trainer"
)

// kernelCase is a program to be measured call by call.
type kernelCase struct {
	shape string // shown behind the kernels' names; empty: that of each call
	build func() (solo.Program, error)
}

// product is the shape of a matrix product.
type product struct {
	m, n, k int
	ta, tb  bool
}

// String is the letters of the transposes, rows, columns and inner dimension.
func (p product) String() string {
	return fmt.Sprintf(" %c%c %dx%dx%d", "nt"[bit(p.ta)], "nt"[bit(p.tb)], p.m, p.n, p.k)
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (p product) flops() float64 { return 2 * float64(p.m) * float64(p.n) * float64(p.k) }

func (p product) kernelCase() kernelCase {
	return kernelCase{build: func() (solo.Program, error) { return solo.MatMul(p.m, p.n, p.k, p.ta, p.tb) }}
}

// standardProducts are the shapes that other libraries have been measured at.
func standardProducts() []product {
	var all []product
	for _, s := range []product{{m: 256, n: 256, k: 256}, {m: 512, n: 1024, k: 1024}, {m: 1024, n: 4096, k: 1024}, {m: 1024, n: 48, k: 512}} {
		all = append(all, s, product{s.m, s.n, s.k, false, true}, product{s.m, s.n, s.k, true, false})
	}
	return all
}

// presetProducts are the matrix products of a training step, by size.
func presetProducts(cfg trainer.Config) ([]product, error) {
	g, err := model.NewTrainingGraph(cfg.Model, cfg.Trainer.BatchSize, cfg.Data.SequenceLength, model.GraphOptions{})
	if err != nil {
		return nil, err
	}
	seen := map[product]bool{}
	var all []product
	for _, in := range g.Program.Instrs {
		if in.Kernel != "matmul" {
			continue
		}
		c, a := in.Outs[0].Shape, g.Program.Values[in.In[0]].Size()
		p := product{c[0], c[1], a / c[0], in.Attrs.Bool("ta"), in.Attrs.Bool("tb")}
		if !seen[p] {
			seen[p] = true
			all = append(all, p)
		}
	}
	slices.SortStableFunc(all, func(a, b product) int { return int(a.flops()/1e3 - b.flops()/1e3) })
	return all, nil
}

// Sizes of the passes over memory: tensors of 32 MiB and more, which no cache holds.
const (
	manyRows  = 1 << 15
	width     = 256
	inner     = 512
	states    = 16
	experts   = 8
	topK      = 2
	scanChunk = 32 // as in package model
)

// passes are the operators that pass over memory, and experts.
func passes() []kernelCase {
	var all []kernelCase
	for _, build := range []func() (solo.Program, error){
		func() (solo.Program, error) { return solo.RMSNorm(manyRows, width) },
		func() (solo.Program, error) { return solo.SplitNorm(8*manyRows, 16, states) },
		func() (solo.Program, error) { return solo.Conv(manyRows/256, 256, inner, 4) },
		func() (solo.Program, error) { return solo.SwiGLU(manyRows, inner) },
		func() (solo.Program, error) { return solo.CrossEntropy(manyRows, inner) },
		func() (solo.Program, error) { return solo.Embedding(manyRows, inner, width) },
		func() (solo.Program, error) { return solo.Add(manyRows, width) },
		func() (solo.Program, error) { return solo.Router(32*manyRows, experts, topK) },
		func() (solo.Program, error) { return solo.Experts(manyRows, width, inner, experts, topK) },
		func() (solo.Program, error) { return solo.AdamW(1<<24, false) },
	} {
		all = append(all, kernelCase{build: build})
	}
	return all
}

// mixers are the operators along the sequence, at the shapes of cpu-peer and longer.
func mixers() []kernelCase {
	var all []kernelCase
	for _, length := range []int{256, 512} {
		all = append(all, kernelCase{fmt.Sprintf("4x%dx%dx%d", length, inner, states),
			func() (solo.Program, error) { return solo.Scan(4, length, inner, states, scanChunk) }})
	}
	for _, length := range []int{256, 1024} {
		all = append(all, kernelCase{fmt.Sprintf("4x%d, 8 heads of 32", length), func() (solo.Program, error) {
			return solo.Attention(4, length, op.Heads{Heads: 8, KVHeads: 2, HeadDim: 32})
		}})
	}
	return all
}

// name is a call's kernel with the case's shape, else with rows, columns and inner
// dimension of a product, else with the largest operand's shape.
func (k kernelCase) name(c *engine.Call) string {
	switch {
	case k.shape != "":
		return c.Kernel + " " + k.shape
	}
	if shape := productShape(c); shape != "" {
		return c.Kernel + shape
	}
	largest := c.In[0]
	for _, t := range slices.Concat(c.In, c.Out) {
		if t != nil && t.Size() > largest.Size() {
			largest = t
		}
	}
	return c.Kernel + " " + strings.ReplaceAll(strings.Trim(fmt.Sprint(largest.Shape), "[]"), " ", "x")
}
