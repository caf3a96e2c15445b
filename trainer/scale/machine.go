package scale

import "math"

// Link is a way out of one rank, for data that go in one direction.
type Link struct {
	BytesPerSecond float64
	Latency        float64 // seconds a message is under way
}

// Machine is a kind of rank and how ranks are joined.
type Machine struct {
	Name         string
	Memory       int64   // bytes of a rank
	Copy         float64 // bytes read and written a second by a pass over memory
	Pass         float64 // share of Copy that kernels reach
	Launch       float64 // seconds from one kernel to the next, at least
	Rate         float64 // operations a second in matrix products
	Rates        map[string]float64
	Within       Link // to ranks of the same node
	Between      Link // to ranks of other nodes
	RanksPerNode int
	Start        float64 // seconds from asking for an operation between ranks to its first byte
	// Share is how much slower a rank computes when n ranks are on its node; nil
	// where each has a device of its own.
	Share func(n int) float64
}

// Machines are the kinds of GPU that can be predicted, by name.
var Machines = map[string]func() Machine{"h100": H100, "h200": H200}

// H100 is the same node with NVIDIA H100s, which have the same processor and another
// memory.
func H100() Machine {
	m := H200()
	m.Name, m.Memory, m.Copy = "H100", 80e9, 2.83e12
	return m
}

// H200 is a node of eight NVIDIA H200s with a 400 Gbit/s network card each. The
// rates are those that docs/performance.md measures on one card, what is within a node
// those that docs/scaling.md measures between two H100s.
func H200() Machine {
	return Machine{
		Name: "H200", Memory: 141e9, Copy: 4.1e12, Pass: 0.85, Launch: 3e-6, Rate: 680e12,
		Rates: map[string]float64{
			"attention": 500e12, "attention_grad": 440e12,
			"grouped_matmul": 720e12, "grouped_matmul_dx": 720e12, "grouped_matmul_dw": 720e12,
			"selective_scan": 40e12, "selective_scan_grad": 21e12,
		},
		Within: Link{BytesPerSecond: 339e9, Latency: 4e-6}, Between: Link{BytesPerSecond: 45e9, Latency: 12e-6}, RanksPerNode: 8, Start: 120e-6,
	}
}

// seconds is what a call of flops operations and bytes needs.
func (m Machine) seconds(kernel string, flops, bytes float64) float64 {
	rate, ok := m.Rates[kernel]
	if !ok {
		rate = m.Rate
	}
	return max(flops/rate, bytes/(m.Copy*m.Pass), m.Launch)
}

// ring is the link that bounds a ring of n ranks, of which neighbours in the mesh
// are neighbours on a node. A ring that leaves the nodes does so on all cards of a
// node at once.
func (m Machine) ring(n int) Link {
	if n <= m.RanksPerNode {
		return m.Within
	}
	return Link{
		BytesPerSecond: min(m.Within.BytesPerSecond, m.Between.BytesPerSecond*float64(m.RanksPerNode)),
		Latency:        (m.Within.Latency*float64(m.RanksPerNode-1) + m.Between.Latency) / float64(m.RanksPerNode),
	}
}

// scatter is the time of a reduce-scatter of bytes among n ranks, and of an
// all-gather.
func (m Machine) scatter(bytes float64, n int) float64 {
	if n == 1 || bytes == 0 {
		return 0
	}
	l := m.ring(n)
	return bytes*float64(n-1)/float64(n)/l.BytesPerSecond + float64(n-1)*l.Latency
}

// exchange is the time in which each of n ranks sends bytes, in equal parts, to all
// of them, itself included.
func (m Machine) exchange(bytes float64, n int) float64 {
	if n == 1 {
		return 0
	}
	part := bytes / float64(n)
	near := min(n, m.RanksPerNode) - 1
	far := n - 1 - near
	within := part * float64(near) / m.Within.BytesPerSecond
	between := part * float64(far) / m.Between.BytesPerSecond
	latency := m.Within.Latency
	if far > 0 {
		latency = m.Between.Latency
	}
	return m.started(math.Max(within, between) + float64(n-1)*latency/2)
}

// started is the time of an operation that is under way for so long.
func (m Machine) started(seconds float64) float64 {
	if seconds == 0 {
		return 0
	}
	return m.Start + seconds
}

// slowdown is how much slower a rank computes among world ranks.
func (m Machine) slowdown(world int) float64 {
	if m.Share == nil {
		return 1
	}
	return m.Share(min(world, m.RanksPerNode))
}
