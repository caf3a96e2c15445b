package chaos

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"jambalaya/internal/cli"
	"jambalaya/trainer/report"
)

// larger is a model whose step takes some tens of milliseconds and whose state is some
// megabytes, so that saving it is work beside a step.
var larger = set("model.hidden_size=96", "model.intermediate_size=192", "model.num_attention_heads=4", "model.num_key_value_heads=2",
	"model.mamba_d_state=16", "data.sequence_length=128", "trainer.batch_size=8", "trainer.eval_tokens=128", "trainer.eval_every=100000")

// savingCost compares the mean step of runs that save every 20 steps with runs that do
// not save, in turn. Others use the machine too: the best run of each kind counts.
func savingCost(ctx context.Context, l *lab) (result, error) {
	pairs, steps := l.reps(3, 7), l.reps(101, 201)
	var with, without []float64
	for i := range pairs {
		for every, times := range map[int]*[]float64{100_000: &without, 20: &with} {
			mean, err := l.meanStep(ctx, fmt.Sprintf("every%d-%d", every, i), steps, every)
			if err != nil {
				return result{}, err
			}
			*times = append(*times, mean)
		}
	}
	ratio := slices.Min(with) / slices.Min(without)
	figure := fmt.Sprintf("%.3f x: %.2f ms, without %.2f ms (the best mean of %d runs of %d steps each)", ratio, slices.Min(with)*1e3, slices.Min(without)*1e3, pairs, steps)
	return result{figure, ratio <= 1.05}, nil
}

// meanStep trains and returns the mean time from one line of the metrics to the next,
// in seconds, without the first steps and the last one's validation and save.
func (l *lab) meanStep(ctx context.Context, name string, steps, every int) (float64, error) {
	dir, err := l.place(name)
	if err != nil {
		return 0, err
	}
	args := l.arguments(dir, append(larger, set(fmt.Sprintf("trainer.steps=%d", steps), fmt.Sprintf("checkpoint.every=%d", every))...)...)
	if _, err := l.complete(ctx, cli.CodeOK, args...); err != nil {
		return 0, err
	}
	lines, err := report.ReadMetrics(filepath.Join(dir, "metrics.jsonl"))
	if err != nil {
		return 0, err
	}
	const first = 10
	from, to := lines[first], lines[steps-1]
	return float64(to.Time-from.Time) / float64(to.Step-from.Step), nil
}
