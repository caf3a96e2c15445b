package trainer

import (
	"errors"
	"strings"
	"testing"

	"jambalaya/parallel"
)

// partsConfig is a world whose bits are those of any other.
func (w world) partsConfig(cache string) Config {
	c := worldConfig(cache, w.Mesh)
	c.Parallel.Zero1, c.Trainer.Parts = w.zero1, 8
	return c
}

// TestPartsGiveTheSameBits: with parts of a step, all meshes have the same losses, norms,
// validations and weights, to the last bit.
func TestPartsGiveTheSameBits(t *testing.T) {
	t.Parallel()
	cache, alone := t.TempDir(), t.TempDir()
	trainAlone(t, alone, world{Mesh: parallel.Mesh{Data: 1, Expert: 1}}.partsConfig(cache))
	for _, w := range []world{
		{Mesh: parallel.Mesh{Data: 2, Expert: 1}},
		{Mesh: parallel.Mesh{Data: 2, Expert: 1}, zero1: true},
		{Mesh: parallel.Mesh{Data: 4, Expert: 1}},
		{Mesh: parallel.Mesh{Data: 4, Expert: 1}, zero1: true},
		{Mesh: parallel.Mesh{Data: 8, Expert: 1}, zero1: true},
		{Mesh: parallel.Mesh{Data: 1, Expert: 2}},
		{Mesh: parallel.Mesh{Data: 1, Expert: 4}, zero1: true},
		{Mesh: parallel.Mesh{Data: 2, Expert: 2}},
		{Mesh: parallel.Mesh{Data: 2, Expert: 2}, zero1: true},
		{Mesh: parallel.Mesh{Data: 2, Expert: 4}},
	} {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := errors.Join(runWorld(t, t.Context(), dir, w.partsConfig(cache), 1, nil)...); err != nil {
				t.Fatal(err)
			}
			compareRuns(t, alone, dir)
		})
	}
}

// TestPartsDropAlike is the same where experts have a capacity, and with two sequences a part.
func TestPartsDropAlike(t *testing.T) {
	t.Parallel()
	cache, alone, shared := t.TempDir(), t.TempDir(), t.TempDir()
	limited := func(w world) Config {
		c := w.partsConfig(cache)
		c.Model.ExpertCapacityFactor, c.Trainer.Recompute, c.Trainer.Parts = 0.75, "layer", 4
		return c
	}
	trainAlone(t, alone, limited(world{Mesh: parallel.Mesh{Data: 1, Expert: 1}}))
	trainWorld(t, shared, limited(world{Mesh: parallel.Mesh{Data: 2, Expert: 2}, zero1: true}), 1)
	compareRuns(t, alone, shared)
}

// TestElasticPartsGiveTheSameBits goes on with a run on another mesh, again and again.
func TestElasticPartsGiveTheSameBits(t *testing.T) {
	t.Parallel()
	cache, alone, dir := t.TempDir(), t.TempDir(), t.TempDir()
	trainAlone(t, alone, world{Mesh: parallel.Mesh{Data: 1, Expert: 1}}.partsConfig(cache))
	trainElastic(t, dir, func(w world) Config { return w.partsConfig(cache) },
		world{Mesh: parallel.Mesh{Data: 4, Expert: 1}, zero1: true},
		world{Mesh: parallel.Mesh{Data: 1, Expert: 2}},
		world{Mesh: parallel.Mesh{Data: 2, Expert: 4}, zero1: true},
		world{Mesh: parallel.Mesh{Data: 4, Expert: 1}})
	compareRuns(t, alone, dir)
}

func TestPartsAreChecked(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{
		"trainer.parts=3":                                         "trainer.parts: 3 is neither 0 nor a power of two",
		"trainer.parts=16":                                        "trainer.parts: 16 does not divide the batch_size of 8 sequences",
		"trainer.accumulation=2 trainer.parts=4":                  "trainer.parts: 4 already cuts a step into micro-batches",
		"trainer.parts=4 parallel.data=8":                         "parallel.data: 8 x expert 1 is a mesh of 8 ranks, which does not divide the 4 parts of a step",
		"trainer.parts=8 parallel.data=4 parallel.transport=nccl": "parallel.transport: nccl adds more than two ranks up in an order of its own",
		"trainer.parts=8 parallel.data=2 parallel.transport=nccl": "",
		"trainer.parts=8 trainer.batch_size=16 parallel.data=4":   "",
	} {
		_, err := loadText("trainer: {batch_size: 8}", strings.Fields(set)...)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", set, err, want)
		}
	}
}
