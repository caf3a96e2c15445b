package tokenizer

// pairTable maps two ids to the id of their merge: a hash table with open
// addressing, at most half full. It serves some ten lookups a byte of new text.
type pairTable struct {
	keys []uint64 // 0 is empty: no merge has key 0, see pairKey
	ids  []uint32
	mask uint64
}

func newPairTable(n int) pairTable {
	size := 16
	for size < 2*n {
		size *= 2
	}
	return pairTable{make([]uint64, size), make([]uint32, size), uint64(size - 1)}
}

// pairKey packs two ids; 1 is added so that no pair has key 0.
func pairKey(left, right uint32) uint64 { return uint64(left)<<32 | uint64(right) + 1 }

// slot finds the place of a key, or the empty one where it belongs.
func (t *pairTable) slot(key uint64) uint64 {
	h := key * 0x9E3779B97F4A7C15
	for i := h ^ h>>32; ; i++ {
		if k := t.keys[i&t.mask]; k == key || k == 0 {
			return i & t.mask
		}
	}
}

// add enters a pair, and reports false if it was there.
func (t *pairTable) add(left, right, id uint32) bool {
	key := pairKey(left, right)
	i := t.slot(key)
	if t.keys[i] == key {
		return false
	}
	t.keys[i], t.ids[i] = key, id
	return true
}

func (t *pairTable) get(left, right uint32) (uint32, bool) {
	key := pairKey(left, right)
	i := t.slot(key)
	return t.ids[i], t.keys[i] == key
}
