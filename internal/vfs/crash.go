package vfs

import (
	"maps"
	"slices"

	"jambalaya/internal/prng"
)

// SyncDir makes the changes of a directory durable, in order. A rename between
// two directories is one change: it takes with it the earlier ones of the other.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("syncdir", name)
	if err != nil {
		return err
	}
	involved := map[*node]bool{n: true}
	synced := make([]bool, len(m.pending))
	for i, c := range slices.Backward(m.pending) {
		if synced[i] = c.touches(involved); synced[i] {
			c.addTo(involved)
		}
	}
	var left []entryChange
	for i, c := range m.pending {
		if synced[i] {
			c.persist()
		} else {
			left = append(left, c)
		}
	}
	m.pending = left
	return nil
}

func (c entryChange) touches(dirs map[*node]bool) bool {
	for _, e := range c {
		if dirs[e.dir] {
			return true
		}
	}
	return false
}

func (c entryChange) addTo(dirs map[*node]bool) {
	for _, e := range c {
		dirs[e.dir] = true
	}
}

func (c entryChange) persist() {
	for _, e := range c {
		set(e.dir.durableEntries, e.name, e.child)
	}
}

// Crash is a power cut: it turns the file system into what is found after the
// restart. Without a generator only what was synced is left. With one, chance
// decides: of the unsynced changes of each directory the first few survive, and
// of unsynced data all, none, a part, or zeros in its place. Files that are open
// belong to the time before.
func (m *Mem) Crash(r *prng.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r != nil {
		lost := map[*node]bool{}
		for _, c := range m.pending {
			if c.touches(lost) || r.IntN(3) == 0 {
				c.addTo(lost)
			} else {
				c.persist()
			}
		}
	}
	m.pending = nil
	m.root = m.root.restart(r)
}

// restart is the node as found after the crash.
func (n *node) restart(r *prng.Rand) *node {
	found := newNode(n.name, n.dir)
	if !n.dir {
		found.data = n.torn(r)
		found.durable = found.data
		return found
	}
	for _, name := range slices.Sorted(maps.Keys(n.durableEntries)) {
		child := n.durableEntries[name].restart(r)
		found.entries[name], found.durableEntries[name] = child, child
	}
	return found
}

// torn is the contents as found after the crash.
func (n *node) torn(r *prng.Rand) []byte {
	unsynced := len(n.data) - len(n.durable)
	if r == nil || unsynced == 0 {
		return slices.Clone(n.durable)
	}
	switch r.IntN(4) {
	case 0:
		return slices.Clone(n.durable)
	case 1:
		return slices.Clone(n.data)
	case 2:
		return slices.Clone(n.data[:len(n.durable)+r.IntN(unsynced)])
	default:
		return append(slices.Clone(n.durable), make([]byte, unsynced)...)
	}
}
