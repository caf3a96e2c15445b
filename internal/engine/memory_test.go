package engine

import (
	"testing"

	"pgregory.net/rapid"
)

// TestPlace: storages that live at the same time do not overlap, the arena holds
// them all, and it is between the peak of what lives and the sum.
func TestPlace(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all []*storage
		var sum int64
		for range rapid.IntRange(0, 40).Draw(t, "storages") {
			start := rapid.IntRange(0, 30).Draw(t, "start")
			s := &storage{bytes: rapid.Int64Range(0, 5*align).Draw(t, "bytes"), start: start,
				end: start + rapid.IntRange(0, 10).Draw(t, "life")}
			if rapid.IntRange(0, 9).Draw(t, "large") == 0 {
				s.bytes <<= 32
			}
			sum += roundUp(s.bytes)
			all = append(all, s)
		}
		for _, reuse := range []bool{true, false} {
			arena := place(all, reuse)
			if peak := peakLive(all); arena < peak || arena > sum || !reuse && arena != sum {
				t.Fatalf("reuse %t: an arena of %d, with %d alive at once and %d in all", reuse, arena, peak, sum)
			}
			for i, a := range all {
				if a.off%align != 0 || a.off < 0 || a.off+a.bytes > arena {
					t.Fatalf("reuse %t: %d bytes at %d of %d", reuse, a.bytes, a.off, arena)
				}
				for _, b := range all[:i] {
					together := !reuse || a.start <= b.end && b.start <= a.end
					if together && a.off < b.off+b.bytes && b.off < a.off+a.bytes {
						t.Fatalf("reuse %t: %+v overlaps %+v", reuse, *a, *b)
					}
				}
			}
		}
	})
}

// TestPlaceReuses: a chain in which each value lives until the next needs room
// for two.
func TestPlaceReuses(t *testing.T) {
	t.Parallel()
	var all []*storage
	for i := range 20 {
		all = append(all, &storage{bytes: align, start: i, end: i + 1})
	}
	if got := place(all, true); got != 2*align || peakLive(all) != got {
		t.Errorf("an arena of %d for a chain, of which %d live at once", got, peakLive(all))
	}
}
