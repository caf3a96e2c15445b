package agent

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

// openRing reads the keys, where there are to be any.
func (g *Gossip) openRing() error {
	if g.bind.Keys == nil {
		return nil
	}
	keys, err := g.bind.Keys()
	if err == nil && len(keys) == 0 {
		err = errors.New("there are none")
	}
	if err == nil {
		g.ring, err = memberlist.NewKeyring(keys, keys[0])
	}
	return err
}

const (
	// keyLook is how often the file of the keys is looked at.
	keyLook = time.Second
	// keyUse is how long a new key is known before it encrypts: until then all others
	// have looked, too.
	keyUse = 4 * keyLook
)

// follow keeps to the file of the keys.
func (g *Gossip) follow() {
	ticker := time.NewTicker(keyLook)
	defer ticker.Stop()
	for {
		select {
		case <-g.closed:
			return
		case now := <-ticker.C:
			g.rotate(now)
		}
	}
}

// rotate takes the keys as they are at a time: a new one is first learnt, then used, and
// an old one forgotten.
func (g *Gossip) rotate(now time.Time) {
	keys, err := g.bind.Keys()
	if err != nil || len(keys) == 0 {
		return // what was read before goes on
	}
	for _, k := range keys {
		_ = g.ring.AddKey(k) // its size was checked when it was read
	}
	if !bytes.Equal(g.first, keys[0]) {
		g.first, g.learnt = keys[0], now
	}
	if now.Sub(g.learnt) < keyUse && slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, g.ring.GetPrimaryKey()) }) {
		return
	}
	_ = g.ring.UseKey(keys[0])
	for _, old := range slices.Clone(g.ring.GetKeys()) {
		if !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, old) }) {
			_ = g.ring.RemoveKey(old)
		}
	}
}
