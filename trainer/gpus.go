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
// memory of the hosts.
func (t *team) useGPUs(ctx context.Context, d *Device, c parallel.Config) error {
	if t.size() == 1 || c.Transport == "grpc" {
		return nil
	}
	places, err := gatherBytes(ctx, t.control, parallel.Op{Name: "devices"}, []byte(placeOf(d)))
	if err != nil {
		return err
	}
	if obstacle := sharedOrNone(places); obstacle != nil {
		if c.Transport == "nccl" {
			return cli.Config(fmt.Errorf("parallel.transport: nccl: %w; set it to auto or grpc", obstacle))
		}
		return nil
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
			made, err := nccl.NewGroup(ctx, d.gpu, t.world.Transport, g.name, g.ranks, t.options)
			if err != nil {
				return err
			}
			*g.group = made
		}
	}
	return nil
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
