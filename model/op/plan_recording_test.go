package op

import (
	"testing"

	"jambalaya/internal/engine"
)

// recordingBackend records as a device with graphs does.
type recordingBackend struct {
	*refBackend
	recorded, started int
}

type recording struct {
	b   *recordingBackend
	run func() error
}

func (b *recordingBackend) Record(run func() error) (engine.Recording, error) {
	b.recorded++
	return recording{b, run}, nil
}

func (r recording) Start() error {
	r.b.started++
	return r.run()
}

func (r recording) Close() {}

// TestRecording: the first run is a plain one, the second is recorded, and from when
// somebody looks at the instructions on each is run by itself.
func TestRecording(t *testing.T) {
	t.Parallel()
	d := trainingStack(t, 3)
	be := &recordingBackend{refBackend: newRefBackend(d.Graph())}
	p := compile(t, d.kit, be, engine.Options{}, d.outputs()...)
	var want [][]float64
	for i, c := range []struct{ recorded, started int }{{0, 0}, {1, 1}, {1, 2}} {
		got := p.run(t)
		if i == 0 {
			want = got
		}
		if diff := firstDifference(got, want); diff != "" || be.recorded != c.recorded || be.started != c.started {
			t.Errorf("run %d: %d recorded, %d started, want %v; %s", i, be.recorded, be.started, c, diff)
		}
	}
	p.plan.Profile()
	p.run(t)
	if be.recorded != 1 || be.started != 2 {
		t.Errorf("profiled: %d recorded, %d started", be.recorded, be.started)
	}
}
