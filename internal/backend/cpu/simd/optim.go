package simd

import "math"

// AdamW is one step of the optimiser (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2, as PyTorch
// computes it):
//
//	g = GradScale g;  p = p (1 - LR WeightDecay)
//	m = Beta1 m + (1-Beta1) g;  v = Beta2 v + (1-Beta2) g^2
//	p = p - LR/Correction1 m / (sqrt(v)/sqrt(Correction2) + Eps),   Correction = 1 - Beta^step
type AdamW struct {
	LR, Beta1, Beta2, Eps, WeightDecay float64
	Correction1, Correction2           float64
	GradScale                          float64
}

// Step advances the weights p and the moments m and v by the gradient g, all of one length.
func (a AdamW) Step(p, m, v, g []float32) {
	n := len(p)
	vec().adamW(p, m[:n], v[:n], g[:n],
		float32(a.GradScale), float32(1-a.LR*a.WeightDecay),
		float32(1-a.Beta1), float32(a.Beta2), float32(1-a.Beta2),
		float32(1/math.Sqrt(a.Correction2)), float32(a.Eps), float32(a.LR/a.Correction1))
}

// adamWGo takes 1-beta1, beta2, 1-beta2, 1/sqrt(Correction2) and LR/Correction1 ready.
func adamWGo(p, m, v, g []float32, scale, decay, beta1c, beta2, beta2c, root, eps, step float32) {
	m, v, p = m[:len(g)], v[:len(g)], p[:len(g)]
	for i, grad := range g {
		grad *= scale
		m[i] += (grad - m[i]) * beta1c
		v[i] = v[i]*beta2 + grad*grad*beta2c
		denom := float32(math.Sqrt(float64(v[i])))*root + eps
		p[i] = p[i]*decay - step*m[i]/denom
	}
}
