package cuda

import "jambalaya/internal/engine"

// same gives the operands of a product with result c one type, in scratch memory
// where they have to be copied. The product is in fp32 where c is and not both
// operands are bf16 (the router's), else in bf16.
func (a *args) same(x, y, c *engine.Tensor) (*engine.Tensor, *engine.Tensor) {
	want := engine.BFloat16
	if c.DType == engine.Float32 && (x.DType == engine.Float32 || y.DType == engine.Float32) {
		want = engine.Float32
	}
	return a.stored(x, want), a.stored(y, want)
}

// stored is x, or a copy of it in scratch memory, as a given type.
func (a *args) stored(x *engine.Tensor, d engine.DType) *engine.Tensor {
	if x.DType == d {
		return x
	}
	c := &engine.Tensor{Shape: x.Shape, DType: d}
	c.Mem = &memory{base: a.scratch(int(c.Bytes()+3) / 4), bytes: c.Bytes()}
	a.convert(x, c)
	return c
}

// convert writes x to c, as that is stored.
func (a *args) convert(x, c *engine.Tensor) {
	vec, width := vector(x.Size(), x, c)
	a.file("elementwise", typed("A", x), typed("Y", c), vec).launch("convert", flat(x.Size(), width), c, x, x.Size())
}
