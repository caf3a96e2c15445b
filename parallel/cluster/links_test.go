package cluster

import "testing"

// TestBlame: whose network is slow follows from the links, where it can.
func TestBlame(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		members  int
		step     float64
		links    []link
		from, to int
		slow     bool
	}{
		{"all fast", 4, 1, []link{{3, 0, 0.1}, {0, 1, 0.1}, {1, 2, 0.1}, {2, 3, 0.1}}, 0, 0, false},
		{"one worker, in a ring", 4, 1, []link{{3, 0, 0.1}, {0, 1, 0.8}, {1, 2, 0.7}, {2, 3, 0}}, 1, 1, true},
		{"one worker of three", 3, 1, []link{{2, 0, 0.8}, {0, 1, 0.9}, {1, 2, 0.1}}, 0, 0, true},
		{"one worker, all to all", 4, 1, []link{{2, 0, 0.8}, {2, 1, 0.9}, {0, 2, 0.9}, {2, 3, 0.7}}, 2, 2, true},
		{"a link", 4, 1, []link{{3, 0, 0.1}, {0, 1, 0.8}, {1, 2, 0.1}, {2, 3, 0}}, 0, 1, true},
		{"two workers", 2, 1, []link{{1, 0, 0.8}, {0, 1, 0.8}}, 0, 0, false},
		{"one way between two", 2, 1, []link{{1, 0, 0.8}, {0, 1, 0.1}}, 1, 0, true},
		{"all slow", 4, 1, []link{{3, 0, 0.7}, {0, 1, 0.7}, {1, 2, 0.7}, {2, 3, 0.7}}, 0, 0, false},
		{"short steps", 4, 0.01, []link{{3, 0, 0}, {0, 1, 0.008}, {1, 2, 0.008}, {2, 3, 0}}, 0, 0, false},
		{"a small part of the step", 4, 10, []link{{3, 0, 0}, {0, 1, 1}, {1, 2, 1}, {2, 3, 0}}, 0, 0, false},
		{"nothing known", 4, 1, nil, 0, 0, false},
	} {
		got, seconds := blameOf(c.links, c.members, c.step)
		if slow := seconds > 0; slow != c.slow || slow && (got.from != c.from || got.to != c.to) {
			t.Errorf("%s: %+v, %g s", c.name, got, seconds)
		}
	}
}
