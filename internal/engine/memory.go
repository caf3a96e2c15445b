package engine

import "sort"

// align is the alignment of every storage in the arena, in bytes: the widest
// vector access and a multiple of the cache line on all devices.
const align = 256

// storage is memory shared by values: a value, its views, and the values that
// took it over in place.
type storage struct {
	bytes      int64
	start, end int // first and last instruction that touches it
	off        int64
	external   *Tensor // memory of the caller; not in the arena
}

func roundUp(n int64) int64 { return (n + align - 1) / align * align }

// place gives each storage an offset such that storages alive at the same time
// do not overlap, and returns the size of the arena. Greedy by size: the large
// ones first, each at the lowest offset that is free over its whole life.
func place(all []*storage, reuse bool) int64 {
	var top int64
	order := append([]*storage(nil), all...)
	sort.SliceStable(order, func(i, j int) bool { return order[i].bytes > order[j].bytes })
	var placed []*storage // by offset
	for _, s := range order {
		s.off = top
		if reuse {
			s.off = lowestFree(placed, s)
		}
		top = max(top, s.off+roundUp(s.bytes))
		at := sort.Search(len(placed), func(i int) bool { return placed[i].off > s.off })
		placed = append(placed, nil)
		copy(placed[at+1:], placed[at:])
		placed[at] = s
	}
	return top
}

func lowestFree(placed []*storage, s *storage) int64 {
	var off int64
	for _, o := range placed {
		if o.end < s.start || o.start > s.end {
			continue
		}
		if o.off-off >= roundUp(s.bytes) {
			break
		}
		off = max(off, o.off+roundUp(o.bytes))
	}
	return off
}

// peakLive is the most memory alive at one instruction: the floor of any layout.
func peakLive(all []*storage) int64 {
	delta := map[int]int64{}
	last := 0
	for _, s := range all {
		delta[s.start] += roundUp(s.bytes)
		delta[s.end+1] -= roundUp(s.bytes)
		last = max(last, s.end)
	}
	var live, peak int64
	for i := 0; i <= last; i++ {
		live += delta[i]
		peak = max(peak, live)
	}
	return peak
}
