package model

import (
	G "gorgonia.org/gorgonia"

	"jambalaya/model/op"
)

// scanChunk is the number of positions between two states of the selective scan
// that are kept for the gradient; those between are computed again.
const scanChunk = 32

// attention is grouped-query attention, with rotary positions only if the
// configuration asks for them: x[T,H] -> [T,H].
func (s *stack) attention(x *G.Node, layer int) *G.Node {
	h := op.Heads{Heads: s.cfg.NumAttentionHeads, KVHeads: s.cfg.KeyValueHeads(), HeadDim: s.cfg.HeadDim()}
	prefix := LayerPrefix(layer)
	qkv := s.linear(x, prefix+SelfAttnQKVProj)
	if s.cfg.RopeTheta > 0 {
		var pos *G.Node
		if s.states != nil {
			pos = s.states.pos
		}
		qkv = s.Rope(qkv, s.docs, pos, h, s.cfg.RopeTheta)
	}
	var out *G.Node
	if s.states == nil {
		out = s.Attention(qkv, s.docs, h)
	} else {
		out = s.states.attention(s, qkv, layer, h)
	}
	return s.linear(out, prefix+SelfAttnOProj)
}

// mamba is the Mamba-1 mixer with Jamba's inner norms (Gu and Dao 2023, arXiv
// 2312.00752, sect. 3; Jamba, arXiv 2403.19887, sect. 6.4): x[T,H] -> [T,H].
func (s *stack) mamba(x *G.Node, layer int) *G.Node {
	c := s.cfg
	prefix := LayerPrefix(layer)
	xTD := s.linear(x, prefix+MambaInProjX)
	zTD := s.linear(x, prefix+MambaInProjZ)

	convState, scanState := s.states.mamba(layer)
	var convBias *G.Node
	if c.MambaConvBias {
		convBias = s.weight(prefix + MambaConv1dBias)
	}
	xTD, convEnd := s.Conv1D(xTD, s.weight(prefix+MambaConv1d), convBias, s.docs, convState, s.batch, s.length)

	var wdt, wb, wc *G.Node
	if c.MambaInnerNorms {
		wdt, wb, wc = s.weight(prefix+MambaDtLayernorm), s.weight(prefix+MambaBLayernorm), s.weight(prefix+MambaCLayernorm)
	}
	dtTR, bTN, cTN := s.SplitNorm(s.MatMul(xTD, s.weight(prefix+MambaXProj), false, true),
		wdt, wb, wc, c.DtRank(), c.MambaDState, c.RMSNormEps)
	yTD, scanEnd := s.SelectiveScan(op.ScanInputs{
		X:     xTD,
		Dt:    s.MatMul(dtTR, s.weight(prefix+MambaDtProj), false, true),
		Bias:  s.weight(prefix + MambaDtProjBias),
		ALog:  s.weight(prefix + MambaALog),
		B:     bTN,
		C:     cTN,
		D:     s.weight(prefix + MambaD),
		Z:     zTD,
		Docs:  s.docs,
		State: scanState,
	}, s.batch, s.length, scanChunk)
	s.states.keepMamba(convEnd, scanEnd)
	return s.linear(yTD, prefix+MambaOutProj)
}
