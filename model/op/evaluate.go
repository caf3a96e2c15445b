package op

import (
	"fmt"
	"sort"

	"gonum.org/v1/gonum/graph"
	G "gorgonia.org/gorgonia"
)

func childrenOf(g *G.ExprGraph, n *G.Node) []*G.Node {
	kids := graph.NodesOf(g.From(n.ID()))
	nodes := make([]*G.Node, len(kids))
	for i, c := range kids {
		nodes[i] = c.(*G.Node)
	}
	return nodes
}

// Evaluate computes the outputs in float64 by the references alone: the oracle
// for backends and for finite differences. inputs gives the value of every leaf
// that the outputs depend on.
func Evaluate(g *G.ExprGraph, inputs map[*G.Node][]float64, outputs ...*G.Node) ([][]float64, error) {
	values := map[int64][]float64{}
	var todo []*G.Node
	seen := map[int64]bool{}
	stack := append([]*G.Node(nil), outputs...)
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if !seen[n.ID()] {
			seen[n.ID()] = true
			todo = append(todo, n)
			stack = append(stack, childrenOf(g, n)...)
		}
	}
	sort.Slice(todo, func(i, j int) bool { return todo[i].ID() < todo[j].ID() })
	for _, n := range todo {
		var in [][]float64
		for _, c := range childrenOf(g, n) {
			in = append(in, values[c.ID()])
		}
		switch o := n.Op().(type) {
		case nil:
			v, ok := inputs[n]
			if !ok || len(v) != n.Shape().TotalSize() {
				return nil, fmt.Errorf("evaluate: input %s%v has %d values", n.Name(), n.Shape(), len(v))
			}
			values[n.ID()] = v
		case *Op:
			values[n.ID()] = o.run(in)
		default: // the sum that gorgonia inserts
			sum := make([]float64, len(in[0]))
			for _, x := range in {
				for i, v := range x {
					sum[i] += v
				}
			}
			values[n.ID()] = sum
		}
	}
	out := make([][]float64, len(outputs))
	for i, n := range outputs {
		out[i] = values[n.ID()]
	}
	return out, nil
}
