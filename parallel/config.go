package parallel

import (
	"slices"

	"jambalaya/internal/config"
)

// Config is the parallel section of a run's configuration.
type Config struct {
	Data   int  `yaml:"data"`   // rows of the mesh: ranks that hold the same experts
	Expert int  `yaml:"expert"` // columns of the mesh: ranks that share the experts out
	Zero1  bool `yaml:"zero1"`  // shard the state of the optimiser

	// ExpertChunk is how many rows of tokens a rank takes for its experts at a time, in
	// multiples of those that it sends: more memory, or more rounds where the router
	// prefers some experts.
	ExpertChunk float64 `yaml:"expert_chunk"`

	Transport string `yaml:"transport"` // of gradients, weights and tokens: nccl between GPUs, grpc between hosts, auto

	BucketMiB      int `yaml:"bucket_mib"`      // gradients that are reduced together, in MiB of float32; 0: 32 between GPUs, 4 between hosts
	ChunkKiB       int `yaml:"chunk_kib"`       // size of a message
	TimeoutSeconds int `yaml:"timeout_seconds"` // to wait in one operation before the generation is given up

	MinWorkers        int `yaml:"min_workers"`         // that may go on when others do not come; 0: all
	JoinWindowSeconds int `yaml:"join_window_seconds"` // to wait for those others
	Restarts          int `yaml:"restarts"`            // in a row, without a step of progress, before the run fails
}

// Default returns one rank.
func Default() Config {
	return Config{Data: 1, Expert: 1, ExpertChunk: 1.25, Transport: "auto", ChunkKiB: MaxChunkBytes >> 10, TimeoutSeconds: 300, JoinWindowSeconds: 60, Restarts: 10}
}

// Mesh returns the arrangement of the ranks.
func (c Config) Mesh() Mesh { return Mesh{Data: c.Data, Expert: c.Expert} }

// Validate returns every fault of the section, joined.
func (c Config) Validate() error {
	var f config.Faults
	within := func(key string, value, low, high int) {
		if value < low || value > high {
			f.Add(key, "%d is not between %d and %d", value, low, high)
		}
	}
	const many = 1 << 16
	within("data", c.Data, 1, many)
	within("expert", c.Expert, 1, many)
	if !(c.ExpertChunk > 0 && c.ExpertChunk <= many) {
		f.Add("expert_chunk", "%v is not above 0 and at most %d", c.ExpertChunk, many)
	}
	if !slices.Contains([]string{"auto", "grpc", "nccl"}, c.Transport) {
		f.Add("transport", "%q is not one of auto, grpc, nccl", c.Transport)
	}
	within("bucket_mib", c.BucketMiB, 0, 1<<12)
	within("chunk_kib", c.ChunkKiB, 1, MaxChunkBytes>>10)
	within("timeout_seconds", c.TimeoutSeconds, 1, 24*3600)
	within("min_workers", c.MinWorkers, 0, c.Mesh().Size())
	within("join_window_seconds", c.JoinWindowSeconds, 1, 24*3600)
	within("restarts", c.Restarts, 0, 1<<20)
	return f.Err()
}

// Workload is what a run wants of a mesh.
type Workload struct {
	World      int // workers there are; 0: not known yet
	NumExperts int // of an MoE layer; 1: the model has none
	BatchSize  int // sequences of a micro-batch, of all ranks together
	Parts      int // of a step that are computed one by one and summed in one tree; 0: none are
}

// Fits returns every reason, joined, why a valid configuration cannot run a
// workload, with its key.
func (c Config) Fits(w Workload) error {
	var f config.Faults
	size := c.Mesh().Size()
	switch {
	case w.World == 1 && size > 1:
		f.Add("data", "%d x expert %d is a mesh of %d ranks, but this is the only worker; start all with --nproc %d, or --listen and --join on several machines", c.Data, c.Expert, size, size)
	case w.World != 0 && size != w.World:
		f.Add("data", "%d x expert %d is a mesh of %d ranks, but there are %d workers", c.Data, c.Expert, size, w.World)
	}
	switch {
	case c.Expert > 1 && w.NumExperts <= 1:
		f.Add("expert", "%d, but the model has no experts to share out; set it to 1", c.Expert)
	case w.NumExperts%c.Expert != 0:
		f.Add("expert", "%d does not divide the %d experts of a layer", c.Expert, w.NumExperts)
	}
	if w.BatchSize%size != 0 {
		f.Add("data", "%d x expert %d is a mesh of %d ranks, which does not divide the global batch of %d sequences", c.Data, c.Expert, size, w.BatchSize)
	} else if w.Parts > 0 && w.Parts%size != 0 {
		f.Add("data", "%d x expert %d is a mesh of %d ranks, which does not divide the %d parts of a step", c.Data, c.Expert, size, w.Parts)
	}
	if w.Parts > 0 && size > 2 && c.Transport == "nccl" {
		f.Add("transport", "nccl adds more than two ranks up in an order of its own, and not in that of the parts of a step; set it to auto or grpc")
	}
	return f.Err()
}
