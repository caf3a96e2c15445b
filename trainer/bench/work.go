package bench

import "jambalaya/internal/engine"

// work is the least a kernel call has to do.
type work struct {
	flops float64 // a multiplication and an addition, or a slot of the unit that does both, being two
	bytes float64 // operands read once and results written once
}

func (w work) plus(o work) work { return work{w.flops + o.flops, w.bytes + o.bytes} }

// Arithmetic instructions that the selective scan needs for a state and position:
// the exponential is a polynomial of degree 5.
const (
	scanInstructions     = 11 // exponential 8, input, state, output
	scanGradInstructions = 23 // the same again, the gradients of state, input, decay, B and C, and sums over channels
)

// workOf counts a call. Only products, scans and attention are ever bound by their
// arithmetic; of the others just the bytes count.
func workOf(c *engine.Call) work {
	w := work{flops: flopsOf(c)}
	for _, tensors := range [][]*engine.Tensor{c.In, c.Out} {
		for _, t := range tensors {
			if t != nil {
				w.bytes += float64(t.Bytes())
			}
		}
	}
	if c.Kernel == "embedding" { // of the table, the rows that are looked up
		w.bytes += float64(c.Out[0].Bytes()) - float64(c.In[0].Bytes())
	}
	return w
}

func flopsOf(c *engine.Call) float64 {
	switch c.Kernel {
	case "matmul":
		return 2 * size(c.Out[0]) * size(c.In[0]) / float64(c.Out[0].Dim(0))
	case "grouped_matmul", "grouped_matmul_dx":
		return 2 * size(c.In[0]) * float64(c.Out[0].Dim(1))
	case "grouped_matmul_dw":
		return 2 * size(c.In[0]) * float64(c.In[1].Dim(1))
	case "selective_scan":
		return 2 * scanInstructions * scanStates(c)
	case "selective_scan_grad":
		return 2 * scanGradInstructions * scanStates(c)
	case "attention":
		return 4 * attended(c)
	case "attention_grad": // five products for two
		return 10 * attended(c)
	}
	return 0
}

func size(t *engine.Tensor) float64 { return float64(t.Size()) }

// scanStates is the number of states times positions.
func scanStates(c *engine.Call) float64 { return size(c.In[0]) * float64(c.In[3].Dim(1)) }

// attended is the number of pairs of a query and a key before it, in all heads,
// times the width of a head.
func attended(c *engine.Call) float64 {
	length := c.Attrs.Float("length")
	return c.Attrs.Float("batch") * c.Attrs.Float("heads") * c.Attrs.Float("head_dim") * length * (length + 1) / 2
}
