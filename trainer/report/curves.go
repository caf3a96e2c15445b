package report

import (
	"math"

	"gonum.org/v1/plot/plotter"
)

// plotPoints is the number of points of a curve: more than there are pixels would
// only be slow.
const plotPoints = 1000

// lowestLoss is drawn in the place of lower ones, zero among them, which a
// logarithmic axis has no place for.
const lowestLoss = 1e-3

// points returns the finite losses of both kinds.
func points(lines []Line) (train, validation plotter.XYs) {
	for _, l := range lines {
		if l.Train != nil && finite(l.CELoss) {
			train = append(train, plotter.XY{X: float64(l.Step), Y: max(lowestLoss, float64(l.CELoss))})
		}
		if l.Validation != nil && finite(l.ValLoss) {
			validation = append(validation, plotter.XY{X: float64(l.Step), Y: max(lowestLoss, float64(l.ValLoss))})
		}
	}
	return train, validation
}

func finite(n Number) bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

// smooth is the mean over a window around each point, of at most a fiftieth of
// all. At the start it is narrower, to follow the steep fall, and at the end it lacks the
// part after it.
func smooth(all plotter.XYs) plotter.XYs {
	sums := make([]float64, len(all)+1)
	for i, p := range all {
		sums[i+1] = sums[i] + p.Y
	}
	half := max(1, len(all)/100)
	out := make(plotter.XYs, len(all))
	for i, p := range all {
		h := min(half, i)
		from, to := i-h, min(i+h+1, len(all))
		out[i] = plotter.XY{X: p.X, Y: (sums[to] - sums[from]) / float64(to-from)}
	}
	return out
}

// sample keeps every n-th point and the last.
func sample(all plotter.XYs) plotter.XYs {
	if len(all) <= plotPoints {
		return all
	}
	var out plotter.XYs
	for i := range plotPoints {
		out = append(out, all[i*(len(all)-1)/(plotPoints-1)])
	}
	return out
}

// extremes keeps the lowest and the highest of neighbouring points, so that
// spikes survive.
func extremes(all plotter.XYs) plotter.XYs {
	if len(all) <= 2*plotPoints {
		return all
	}
	var out plotter.XYs
	for i := range plotPoints {
		block := all[i*len(all)/plotPoints : (i+1)*len(all)/plotPoints]
		low, high := 0, 0
		for j, p := range block {
			if p.Y < block[low].Y {
				low = j
			}
			if p.Y > block[high].Y {
				high = j
			}
		}
		out = append(out, block[min(low, high)], block[max(low, high)])
	}
	return out
}
