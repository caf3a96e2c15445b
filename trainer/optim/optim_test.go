package optim

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestSchedules compares every tenth learning rate with the golden text.
func TestSchedules(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	for _, schedule := range []Schedule{WSD, Cosine, Constant} {
		c := Default()
		c.LR, c.Schedule, c.WarmupSteps, c.MinLRRatio = 1, schedule, 20, 0.1
		fmt.Fprintf(&got, "%s:", schedule)
		for step := int64(1); step <= 200; step++ {
			if step%10 == 0 || step == 1 || step == 199 {
				fmt.Fprintf(&got, " %d=%.4f", step, c.Rate(step, 200))
			}
		}
		got.WriteString("\n")
	}
	want, err := os.ReadFile("testdata/schedules.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

func TestScheduleInvariants(t *testing.T) {
	t.Parallel()
	for _, schedule := range []Schedule{WSD, Cosine, Constant} {
		for _, steps := range []int64{1, 2, 3, 7, 100, 1000} {
			for _, decay := range []float64{0, 0.2, 1} {
				c := Default()
				c.Schedule, c.DecayFraction, c.MinLRRatio = schedule, decay, 0
				largest := 0.0
				for step := int64(1); step <= steps; step++ {
					lr := c.Rate(step, steps)
					if !(lr > 0 && lr <= c.LR) {
						t.Fatalf("%s, decay %v: step %d of %d has the learning rate %v", schedule, decay, step, steps, lr)
					}
					largest = max(largest, lr)
				}
				if largest != c.LR {
					t.Errorf("%s, decay %v: %d steps never reach %v, only %v", schedule, decay, steps, c.LR, largest)
				}
				if after := c.Rate(2*steps, steps); after < 0 || after > c.LR {
					t.Errorf("%s: after the end the learning rate is %v", schedule, after)
				}
			}
		}
	}
}

func TestCorrections(t *testing.T) {
	t.Parallel()
	first, second := Default().Corrections(2)
	if math.Abs(first-0.19) > 1e-15 || math.Abs(second-0.0975) > 1e-15 {
		t.Error(first, second)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	c := Config{Name: "muon", LR: math.NaN(), Betas: [2]float64{1, -1}, WeightDecay: -1, ClipNorm: math.Inf(1), Schedule: "step",
		WarmupSteps: -1, DecayFraction: 2, MinLRRatio: -1}
	want := `name: "muon" is not an optimiser; there is adamw
lr: NaN is not above 0 and at most 1
betas: 1 is not at least 0 and below 1
betas: -1 is not at least 0 and below 1
eps: 0 is not above 0 and at most 1
weight_decay: -1 is not between 0 and 1/lr
clip_norm: +Inf is not a finite number of at least 0
schedule: "step" is not one of wsd, cosine, constant
warmup_steps: -1 is below 0
decay_fraction: 2 is not between 0 and 1
min_lr_ratio: -1 is not between 0 and 1`
	if err := c.Validate(); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestNonFiniteStepsAreSkippedAndCounted(t *testing.T) {
	t.Parallel()
	var s State
	for _, c := range []struct {
		loss, norm float64
		judged     Verdict
		want       Verdict
	}{
		{5, 1, Applied, Applied},
		{math.NaN(), 1, NonFinite, NonFinite},
		{math.Inf(1), math.NaN(), NonFinite, NonFinite},
		{4, math.Inf(1), Applied, NonFinite},
		{3, 1, Applied, Applied},
	} {
		judged := s.Judge(c.loss, 3)
		if got := s.Record(judged, c.loss, c.norm); judged != c.judged || got != c.want {
			t.Errorf("loss %v, norm %v: %q, then %q", c.loss, c.norm, judged, got)
		}
	}
	if want := (State{Applied: 2, NonFinite: 3, Losses: []float64{5, 4, 3}}); !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v, want %+v", s, want)
	}
}

func TestSpikes(t *testing.T) {
	t.Parallel()
	var s State
	step := func(loss, threshold float64) Verdict { return s.Record(s.Judge(loss, threshold), loss, 1) }
	for i := range window {
		if v := step(2+0.1*math.Sin(float64(i)), 3); v != Applied {
			t.Fatalf("step %d of an ordinary loss: %q", i, v)
		}
	}
	if v := step(3, 0); v != Applied {
		t.Errorf("without a threshold: %q", v)
	}
	if v := step(3, 3); v != Spike {
		t.Errorf("a loss of 3 among losses of 2: %q", v)
	}
	if v := step(1, 3); v != Applied {
		t.Errorf("a low loss: %q", v)
	}
	spikes := 0
	for range 50 {
		if step(3, 3) == Spike {
			spikes++
		}
	}
	if spikes == 0 || spikes > 20 || s.Spikes != int64(spikes)+1 || len(s.Losses) != window {
		t.Errorf("%d of 50 steps of a loss that stays high were skipped; %+v", spikes, s)
	}
}

// TestStateSurvivesJSON resumes in the middle of a run.
func TestStateSurvivesJSON(t *testing.T) {
	t.Parallel()
	loss := func(i int) float64 { return 2 + math.Sin(float64(i*i)) + float64(i%97/96)*5 }
	var whole State
	var verdicts []Verdict
	for i := range 400 {
		verdicts = append(verdicts, whole.Record(whole.Judge(loss(i), 2), loss(i), 1))
	}
	if whole.Spikes == 0 {
		t.Fatal("the test has no spikes")
	}
	var s State
	for i := range 400 {
		if v := s.Record(s.Judge(loss(i), 2), loss(i), 1); v != verdicts[i] {
			t.Fatalf("step %d: %q, want %q", i, v, verdicts[i])
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		s = State{}
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(s, whole) {
		t.Errorf("got %+v, want %+v", s, whole)
	}
}
