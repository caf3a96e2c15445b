package op

import "testing"

// TestExpertCapacityOrder: first choices before second ones, then by position, each
// sequence for itself, and padding takes nothing.
func TestExpertCapacityOrder(t *testing.T) {
	t.Parallel()
	k := newKit(1)
	index := k.ints("index", []int{
		1, 0, // its second choice comes after the first ones of tokens 1 and 2
		0, 2,
		0, 1,
		0, 1, // expert 0 is full; 1 has tokens 0 and 2
		0, 1, // padding
		// another sequence
		0, 1,
		0, 1,
		0, 2,
		2, 0,
		1, 2,
	}, 10, 2)
	docs := k.ints("docs", []int{0, 0, 0, 1, -1, 0, 0, 0, 0, 0}, 2, 5)
	weights := k.keep(k.Input("weights", 10, 2), []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
	limited, drops := k.ExpertCapacity(weights, index, docs, 3, 2)
	got, err := Evaluate(k.Graph(), k.values, limited, drops)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "limited", got[0], []float64{1, 0, 3, 4, 5, 6, 0, 0, 9, 10, 11, 12, 13, 0, 0, 16, 17, 0, 19, 0})
	near(t, "drops", got[1], []float64{2, 1, 0, 2, 1, 1})
}

// TestDroppedHasNoGradient: neither what the expert said of a token nor the router's
// logits get any from a dropped assignment.
func TestDroppedHasNoGradient(t *testing.T) {
	t.Parallel()
	const rows, experts, chosen, h = 4, 3, 2, 5
	k := newKit(2)
	var scores []float64
	for range rows { // all choose expert 1, then 0
		scores = append(scores, 1, 2, 0)
	}
	logits := k.keep(k.Input("logits", rows, experts), scores)
	k.wrt = append(k.wrt, logits)
	_, weights, index := k.RouterTopK(logits, chosen, false)
	limited, _ := k.ExpertCapacity(weights, index, k.ints("docs", make([]int, rows), 1, rows), experts, 2)
	ys := k.float("ys", rows*chosen, h)
	y := k.Combine(ys, limited, k.ExpertSort(index, experts))
	d := &differentiated{kit: k, outs: nodes{y}}
	d.addGradients(t)
	got, err := Evaluate(k.Graph(), k.values, y, d.grads[0], d.grads[1])
	if err != nil {
		t.Fatal(err)
	}
	for row := range rows {
		checkZero(t, "output", got[0][row*h:][:h], row >= 2)
		checkZero(t, "gradient of logits", got[1][row*experts:][:experts], row >= 2)
	}
	for row := range rows * chosen { // in the order of experts: four tokens each
		checkZero(t, "gradient of what the experts said", got[2][row*h:][:h], row%rows >= 2)
	}
}

func checkZero(t *testing.T, what string, x []float64, want bool) {
	t.Helper()
	for _, v := range x {
		if (v == 0) != want {
			t.Errorf("%s: %v, want zeros: %t", what, x, want)
			return
		}
	}
}

// TestCapacity is the share at balance times the factor, rounded up, and at most what a
// sequence has.
func TestCapacity(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		factor             float64
		length, k, e, want int
	}{{1, 8, 2, 4, 4}, {1.25, 10, 2, 8, 4}, {0.01, 10, 1, 8, 1}, {1e300, 10, 2, 4, 10}, {1, 7, 1, 2, 4}} {
		if got := Capacity(c.factor, c.length, c.k, c.e); got != c.want {
			t.Errorf("Capacity(%g, %d, %d, %d) = %d, want %d", c.factor, c.length, c.k, c.e, got, c.want)
		}
	}
}
