package model

import (
	G "gorgonia.org/gorgonia"
)

// mlp is down(silu(gate(x)) * up(x)): x[T,H] -> [T,H].
func (s *stack) mlp(x *G.Node, layer int) *G.Node {
	prefix := LayerPrefix(layer)
	return s.linear(s.SwiGLU(s.linear(x, prefix+MLPGateUpProj)), prefix+MLPDownProj)
}

// moe sends each token to its experts, which are MLPs, and adds up what they say,
// weighted by the router: x[T,H] -> [T,H]. With a capacity, what an expert says beyond it
// has no weight, and such rows do not travel to other ranks.
func (s *stack) moe(x *G.Node, layer int) *G.Node {
	c := s.cfg
	prefix := LayerPrefix(layer)
	probs, weights, index := s.RouterTopK(s.MatMulF32(x, s.weight(prefix+MoERouter), false, true), c.NumExpertsPerTok, c.NormalizeTopK)
	s.probs, s.index = append(s.probs, probs), append(s.index, index)
	var limited *G.Node
	if s.capacity > 0 {
		var drops *G.Node
		limited, drops = s.ExpertCapacity(weights, index, s.docs, c.NumExperts, s.capacity)
		weights, s.drops = limited, append(s.drops, drops)
	}

	routing := s.ExpertSort(index, c.NumExperts)
	xs := s.Dispatch(x, routing)
	if s.held != (ExpertRange{}) {
		ys := s.Experts(xs, s.weight(prefix+ExpertsGateUpProj), s.weight(prefix+ExpertsDownProj), routing, limited)
		return s.Combine(ys, weights, routing)
	}
	gu := s.GroupedMatMul(xs, s.weight(prefix+ExpertsGateUpProj), routing)
	ys := s.GroupedMatMul(s.SwiGLU(gu), s.weight(prefix+ExpertsDownProj), routing)
	return s.Combine(ys, weights, routing)
}
