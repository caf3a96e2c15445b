package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"jambalaya/internal/cli"
)

// learning is how long a run may take to follow its files: a new gossip key is known for
// four seconds before it encrypts.
const learning = 6 * time.Second

// rotation changes authority, certificates and gossip key of a run that trains, while new
// connections are made to it all the time and a process watches its gossip. No step may
// fail, no connection be refused, no member be lost. What was retired is then refused, and
// a worker that is started again comes in with what is new.
func rotation(ctx context.Context, l *lab) (result, error) {
	g, err := l.startGuarded(ctx)
	if err != nil {
		return result{}, err
	}
	defer g.stopAll()
	w, err := g.startWitness(ctx)
	if err != nil {
		return result{}, err
	}
	defer w.gossip.Close()
	slept := l.awake.slept()
	before, _ := g.last()
	stopWatch, stopCalls := w.watch(), g.keepCalling(ctx)
	times := l.reps(1, 20)
	var retired intrusion
	for range times {
		retired = g.honest() // with what is valid now
		if err = g.rotate(ctx, l); err != nil {
			break
		}
	}
	calls, failed := stopCalls()
	_, changes := stopWatch()
	after, _ := g.last()
	figure := fmt.Sprintf("%d rotations in %d steps: %d new connections, %d refused, %d membership changes, no generation ended", times, after.Step-before.Step, calls, failed, changes)
	if l.awake.slept() != slept {
		return result{figure: figure}, errors.New("all processes stood still meanwhile, which says nothing of a rotation")
	}
	if err = errors.Join(err, g.undisturbed(ctx)); err != nil {
		return result{figure: figure}, err
	}
	if why, ok := retired.refused(); !ok {
		return result{figure: figure}, fmt.Errorf("a retired certificate is taken: %s", why)
	}
	at, err := g.send(1-g.boss, syscall.SIGKILL)
	if err != nil {
		return result{}, err
	}
	if _, err := g.trains(ctx, at, g.generation); err != nil {
		return result{figure: figure}, fmt.Errorf("a worker that is started again: %w", err)
	}
	return result{figure + "; a retired certificate is refused, a worker started again comes in", failed == 0 && changes == 0 && calls > 20*times}, nil
}

// rotate changes everything once, and retires what was before.
func (g *guarded) rotate(ctx context.Context, l *lab) error {
	for _, step := range [][]string{{"--new-authority", "--new-gossip-key"}, {"--retire"}} {
		args := append([]string{"certs", "--workers", "2", "--watcher", "--out", g.certs}, step...)
		if _, err := l.complete(ctx, cli.CodeOK, args...); err != nil {
			return err
		}
		if err := pause(ctx, learning); err != nil {
			return err
		}
	}
	return nil
}

// keepCalling makes one connection after the other, as the other worker does, with the
// certificate of the moment, until it is stopped.
func (g *guarded) keepCalling(ctx context.Context) (stop func() (calls, failed int)) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	var calls, failed atomic.Int64
	go func() {
		defer close(ended)
		for pause(ctx, 50*time.Millisecond) == nil {
			// Its two files are replaced one after the other, and are read again then.
			why, refused := g.honest().refused()
			for range 3 {
				if !refused || pause(ctx, 100*time.Millisecond) != nil {
					break
				}
				why, refused = g.honest().refused()
			}
			calls.Add(1)
			if refused {
				failed.Add(1)
				fmt.Fprintf(g.out.file, "a call during the rotation: %s\n", why)
			}
		}
	}()
	return func() (int, int) {
		cancel()
		<-ended
		return int(calls.Load()), int(failed.Load())
	}
}
