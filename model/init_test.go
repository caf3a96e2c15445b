package model

import (
	"math"
	"slices"
	"testing"
)

func initial(c Config, name string, seed uint64) []float32 {
	params := c.Params()
	p := params[slices.IndexFunc(params, func(p Param) bool { return p.Name == name })]
	dst := make([]float32, p.Size())
	fill(dst, float32(math.NaN()))
	c.InitParam(p, seed, dst)
	return dst
}

func moments(values []float32) (mean, deviation float64) {
	for _, v := range values {
		mean += float64(v)
	}
	mean /= float64(len(values))
	for _, v := range values {
		deviation += (float64(v) - mean) * (float64(v) - mean)
	}
	return mean, math.Sqrt(deviation / float64(len(values)))
}

func TestInitNormal(t *testing.T) {
	t.Parallel()
	c := Default()
	for _, name := range []string{
		EmbedTokens, LMHead, "layers.4.self_attn.qkv_proj.weight", "layers.0.mamba.in_proj_x.weight",
		"layers.0.mamba.out_proj.weight", "layers.0.feed_forward.gate_up_proj.weight", "layers.1.feed_forward.experts.down_proj",
	} {
		values := initial(c, name, 1)
		mean, deviation := moments(values)
		within := 5 * c.InitializerRange / math.Sqrt(float64(len(values)))
		if math.Abs(mean) > within || math.Abs(deviation-c.InitializerRange) > within {
			t.Errorf("%s: mean %g, standard deviation %g", name, mean, deviation)
		}
	}
}

func TestInitConstant(t *testing.T) {
	t.Parallel()
	c := Default()
	c.MambaProjBias = true
	for name, want := range map[string]float32{
		"layers.0.input_layernorm.weight": 1, FinalLayernorm: 1, "layers.0.mamba.dt_layernorm.weight": 1,
		"layers.0.mamba.D": 1, "layers.0.mamba.conv1d.bias": 0, "layers.0.mamba.in_proj_z.bias": 0, "layers.0.mamba.out_proj.bias": 0,
	} {
		for _, v := range initial(c, name, 1) {
			if v != want {
				t.Errorf("%s: %g, want %g", name, v, want)
				break
			}
		}
	}
	aLog := initial(c, "layers.0.mamba.A_log", 1)
	for i, v := range aLog {
		if want := float32(math.Log(float64(i%c.MambaDState + 1))); v != want {
			t.Fatalf("A_log[%d,%d] = %g, want %g", i/c.MambaDState, i%c.MambaDState, v, want)
		}
	}
}

func TestInitDt(t *testing.T) {
	t.Parallel()
	c := Default()
	bound := 1 / math.Sqrt(float64(c.DtRank()))
	weight := initial(c, "layers.0.mamba.dt_proj.weight", 1)
	if low, high := float64(slices.Min(weight)), float64(slices.Max(weight)); low < -bound || high > bound || low > -0.9*bound || high < 0.9*bound {
		t.Errorf("weights within [%g, %g], want to fill [-%g, %g]", low, high, bound, bound)
	}
	below := 0
	for _, b := range initial(c, "layers.0.mamba.dt_proj.bias", 1) {
		dt := math.Log1p(math.Exp(float64(b)))
		if dt < dtMin*0.999 || dt > dtMax*1.001 {
			t.Errorf("time step %g", dt)
		}
		if dt < math.Sqrt(dtMin*dtMax) {
			below++
		}
	}
	if share := float64(below) / float64(c.InnerSize()); share < 0.4 || share > 0.6 {
		t.Errorf("%g of the time steps are below the middle in the logarithm", share)
	}

	c.DtInit = DtReference
	if slices.ContainsFunc(initial(c, "layers.0.mamba.dt_proj.bias", 1), func(v float32) bool { return v != 0 }) {
		t.Error("the reference starts with no bias")
	}
	if _, deviation := moments(initial(c, "layers.0.mamba.dt_proj.weight", 1)); math.Abs(deviation-0.02) > 0.002 {
		t.Errorf("the reference's weight has standard deviation %g", deviation)
	}
}

func TestInitPad(t *testing.T) {
	t.Parallel()
	c := Default()
	c.PadTokenID = token(3)
	zero := func(values []float32, row int) bool {
		return !slices.ContainsFunc(values[row*c.HiddenSize:(row+1)*c.HiddenSize], func(v float32) bool { return v != 0 })
	}
	if table := initial(c, EmbedTokens, 1); !zero(table, 3) || zero(table, 2) || zero(table, 4) {
		t.Error("exactly the padding token's row is zero")
	}
	if zero(initial(c, LMHead, 1), 3) {
		t.Error("the head has no padding row")
	}
	c.ModelType, c.MambaInnerNorms = Mamba, false
	if zero(initial(c, EmbedTokens, 1), 3) {
		t.Error("Mamba's embedding has no padding row")
	}
}

// TestInitExperts checks that experts do not depend on who else is there.
func TestInitExperts(t *testing.T) {
	t.Parallel()
	c := Default()
	const name = "layers.1.feed_forward.experts.gate_up_proj"
	all := initial(c, name, 7)
	params := c.Params()
	p := params[slices.IndexFunc(params, func(p Param) bool { return p.Name == name })]
	size := p.Size() / c.NumExperts
	shard := make([]float32, 2*size)
	c.InitExperts(p, 7, 1, shard)
	if !slices.Equal(shard, all[size:3*size]) {
		t.Error("experts 1 and 2 differ when they are initialised alone")
	}
	if slices.Equal(all[:size], all[size:2*size]) {
		t.Error("experts 0 and 1 are the same")
	}
}

// TestInitSeparate checks that every parameter has values of its own, that the
// seed matters, and that nothing else does.
func TestInitSeparate(t *testing.T) {
	t.Parallel()
	c := Default()
	seen := map[float32]string{}
	for _, p := range c.Params() {
		if p.Kind != Linear && p.Kind != Embedding && p.Kind != Router && p.Kind != Experts {
			continue
		}
		values := initial(c, p.Name, 1)
		if other, ok := seen[values[0]]; ok {
			t.Errorf("%s and %s start alike", p.Name, other)
		}
		seen[values[0]] = p.Name
	}
	if slices.Equal(initial(c, LMHead, 1), initial(c, LMHead, 2)) {
		t.Error("the seed does not matter")
	}
	if !slices.Equal(initial(c, LMHead, 1), initial(c, LMHead, 1)) {
		t.Error("not deterministic")
	}
}
