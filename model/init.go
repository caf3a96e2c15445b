package model

import (
	"fmt"
	"math"
	"sync"

	"jambalaya/internal/prng"
)

// Range of the time steps that DtMamba draws from, and the smallest one.
const (
	dtMin   = 0.001
	dtMax   = 0.1
	dtFloor = 1e-4
)

// InitParam writes the initial value of a parameter into dst, p.Size() elements.
// It depends on the seed and the parameter's name only, so parameters may be
// initialised in any order and at the same time.
//
// Weights are normal with standard deviation InitializerRange, biases 0, norms
// and D 1, A_log = ln(1..N) and the padding token's embedding 0; dt_proj follows
// DtInit.
func (c Config) InitParam(p Param, seed uint64, dst []float32) {
	if p.Expert {
		c.InitExperts(p, seed, 0, dst)
		return
	}
	r := prng.New(seed, "init/"+p.Name)
	switch p.Kind {
	case Norm, Skip:
		fill(dst, 1)
	case Bias:
		fill(dst, 0)
	case ALog:
		states := p.Shape[1]
		for i := range dst {
			dst[i] = float32(math.Log(float64(1 + i%states)))
		}
	case DtWeight, DtBias:
		c.initDt(p, r, dst)
	default:
		c.normal(r, dst)
		if pad := c.EmbeddingPad(); p.Kind == Embedding && pad >= 0 {
			fill(dst[pad*c.HiddenSize:(pad+1)*c.HiddenSize], 0)
		}
	}
}

// InitExperts writes the initial value of some experts of p, of number first and
// as many as dst has room for. An expert's value does not depend on where the
// others are.
func (c Config) InitExperts(p Param, seed uint64, first int, dst []float32) {
	size := p.Size() / p.Shape[0]
	var experts sync.WaitGroup
	for e := 0; e*size < len(dst); e++ {
		experts.Go(func() { c.normal(prng.New(seed, fmt.Sprintf("init/%s.%d", p.Name, first+e)), dst[e*size:(e+1)*size]) })
	}
	experts.Wait()
}

// initDt initialises the projection that makes time steps, softplus(W dt + b).
// As in mamba-ssm (mamba_simple.py), W keeps the variance of its input and the
// steps start spread over [dtMin, dtMax].
func (c Config) initDt(p Param, r *prng.Rand, dst []float32) {
	switch {
	case c.DtInit == DtReference && p.Kind == DtWeight:
		c.normal(r, dst)
	case c.DtInit == DtReference:
		fill(dst, 0)
	case p.Kind == DtWeight:
		bound := 1 / math.Sqrt(float64(p.Shape[1]))
		for i := range dst {
			dst[i] = float32(bound * (2*r.Float64() - 1))
		}
	default:
		for i := range dst {
			dt := max(dtMin*math.Pow(dtMax/dtMin, r.Float64()), dtFloor)
			dst[i] = float32(dt + math.Log(-math.Expm1(-dt))) // the inverse of softplus
		}
	}
}

func (c Config) normal(r *prng.Rand, dst []float32) {
	for i := range dst {
		dst[i] = float32(c.InitializerRange * r.Normal())
	}
}

func fill(dst []float32, value float32) {
	for i := range dst {
		dst[i] = value
	}
}
