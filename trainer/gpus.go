package trainer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"jambalaya/internal/cli"
	"jambalaya/parallel"
	"jambalaya/parallel/nccl"
)

// useGPUs lets gradients, weights and tokens travel between GPUs by NCCL where every
// rank has one of its own and parallel.transport allows it. Else they go through the
// memory of the hosts. Which it is, and why, is in t.ways.
func (t *team) useGPUs(ctx context.Context, d *Device, c parallel.Config) error {
	const throughHosts = "gradients, weights and tokens go through the hosts' memory"
	if t.size() == 1 {
		return nil
	}
	t.ways = throughHosts
	if c.Transport == "grpc" {
		return nil
	}
	places, err := gatherBytes(ctx, t.control, parallel.Op{Name: "devices"}, []byte(placeOf(d)))
	if err != nil {
		return err
	}
	obstacle := sharedOrNone(places)
	if obstacle == nil && t.options.Tree && t.size() > 2 {
		obstacle = errors.New("NCCL adds more than two ranks up in an order of its own, and not in that of trainer.parts")
	}
	if obstacle != nil {
		if c.Transport == "nccl" {
			return cli.Config(fmt.Errorf("parallel.transport: nccl: %w; set it to auto or grpc", obstacle))
		}
		if d.gpu != nil {
			t.ways += ": " + obstacle.Error()
		}
		return nil
	}
	member, err := nccl.NewMember(d.gpu, t.world.Transport, t.options)
	if err != nil {
		return err
	}
	for _, g := range []struct {
		group *parallel.Group
		name  string
		ranks []int
	}{
		{&t.dense, "dense", t.mesh.World()},
		{&t.column, "experts", t.mesh.Along(parallel.AxisData, t.rank)},
		{&t.row, "tokens", t.mesh.Along(parallel.AxisExpert, t.rank)},
	} {
		if len(g.ranks) > 1 {
			made, err := member.NewGroup(ctx, g.name, g.ranks)
			if err != nil {
				return err
			}
			*g.group = made
		}
	}
	version, err := nccl.Version()
	t.ways = "gradients, weights and tokens go from GPU to GPU by NCCL " + version
	return err
}

// bucket is how many MiB of gradients are reduced together. Between GPUs an operation
// costs some 0.2 ms, in which 32 MiB are half way there.
func (t *team) bucket(c parallel.Config) int {
	_, between := t.dense.(parallel.TensorGroup)
	switch {
	case c.BucketMiB > 0:
		return c.BucketMiB
	case between:
		return 32
	}
	return 4
}

// lacks starts what a rank without a place says instead: the reason.
const lacks = "!"

// placeOf names the GPU of a rank in all the world.
func placeOf(d *Device) string {
	if d.gpu == nil {
		return lacks + "it computes on device " + d.Name()
	}
	if _, err := nccl.Version(); err != nil {
		return lacks + err.Error()
	}
	host, err := os.Hostname()
	if err != nil {
		return lacks + err.Error()
	}
	id, err := d.gpu.ID()
	if err != nil {
		return lacks + err.Error()
	}
	return host + "/" + id
}

// sharedOrNone says why ranks at these places cannot use NCCL, or nil.
func sharedOrNone(places [][]byte) error {
	taken := map[string]int{}
	for rank, place := range places {
		if reason, none := strings.CutPrefix(string(place), lacks); none {
			return fmt.Errorf("rank %d: %s", rank, reason)
		}
		if other, shared := taken[string(place)]; shared {
			return fmt.Errorf("ranks %d and %d share the GPU %s", other, rank, place)
		}
		taken[string(place)] = rank
	}
	return nil
}

// close gives back what the groups hold.
func (t *team) close() error {
	var all error
	for _, g := range []parallel.Group{t.dense, t.column, t.row} {
		if c, ok := g.(io.Closer); ok {
			all = errors.Join(all, c.Close())
		}
	}
	return all
}
