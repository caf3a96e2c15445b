package chaos

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"jambalaya/internal/cli"
	"jambalaya/internal/pki"
	"jambalaya/parallel/cluster"
	"jambalaya/parallel/cluster/agent"
)

// guardRows attack a run of two workers with certificates from outside.
var guardRows = []row{
	{23, "strangers, replays and odd paths", "100% refused", strangers},
	{24, "rotation of keys under load", "0 failed steps", rotation},
	{25, "floods while it trains", "slowdown at most 10%, RSS +128 MiB", flooded},
	{26, "gossip without the key, garbage", "0 membership changes", hostileGossip},
}

// guarded is a run of two workers with certificates and gossip keys.
type guarded struct {
	*crew
	certs      string // directory
	lease      cluster.Record
	boss       int
	generation uint64
}

// startGuarded makes certificates with the train command and starts the run.
func (l *lab) startGuarded(ctx context.Context) (*guarded, error) { return l.startGuardedWith(ctx) }

func (l *lab) startGuardedWith(ctx context.Context, more ...string) (*guarded, error) {
	dir, err := l.place("guarded")
	if err != nil {
		return nil, err
	}
	g := &guarded{certs: filepath.Join(dir, "certs")}
	if _, err := l.complete(ctx, cli.CodeOK, "certs", "--workers", "2", "--watcher", "--out", g.certs); err != nil {
		return nil, err
	}
	if g.crew, err = l.startCrew(ctx, "run", 2, slices.Concat(endless, more, []string{"--certs", g.certs})...); err != nil {
		return nil, err
	}
	if err := g.settle(ctx); err != nil {
		g.stopAll()
		return nil, err
	}
	return g, nil
}

// settle waits until the run trains and remembers who coordinates it.
func (g *guarded) settle(ctx context.Context) error {
	_, err := g.trains(ctx, time.Now(), 0)
	if err != nil {
		return err
	}
	if g.boss, _, err = g.coordinator(); err != nil {
		return err
	}
	if g.generation, err = g.crew.generation(); err != nil {
		return err
	}
	root, err := g.root()
	if err != nil {
		return err
	}
	defer root.Close()
	g.lease, err = cluster.ReadLease(root, ".")
	return err
}

// undisturbed wants the run to train on in the generation that it was in.
func (g *guarded) undisturbed(ctx context.Context) error {
	if _, err := g.trains(ctx, time.Now(), g.generation-1); err != nil {
		return err
	}
	now, err := g.crew.generation()
	if err == nil && now != g.generation {
		err = fmt.Errorf("generation %d became %d", g.generation, now)
	}
	return err
}

// strangers calls the coordinator's process as nobody may. The last call is one that the
// other worker may make, which has to be answered.
func strangers(ctx context.Context, l *lab) (result, error) {
	g, err := l.startGuarded(ctx)
	if err != nil {
		return result{}, err
	}
	defer g.stopAll()
	list, err := g.intrusions()
	if err != nil {
		return result{}, err
	}
	refused := 0
	var reasons []byte // kept with the output of the processes
	for _, i := range list {
		why, ok := i.refused()
		if !ok {
			return result{figure: fmt.Sprintf("%d refused", refused)}, fmt.Errorf("%s: %s", i.name, why)
		}
		reasons = fmt.Appendf(reasons, "%s: %s\n", i.name, why)
		refused++
	}
	if err := os.WriteFile(filepath.Join(g.dir, "refusals.txt"), reasons, 0o666); err != nil {
		return result{}, err
	}
	// All that was refused was so for its fault alone: without one, the call is answered.
	if why, ok := g.honest().refused(); ok {
		return result{}, fmt.Errorf("the call of a worker is refused: %s", why)
	}
	figure := fmt.Sprintf("%d of %d refused", refused, len(list))
	if err := g.undisturbed(ctx); err != nil {
		return result{figure: figure}, err
	}
	return result{figure + "; the run went on in its generation, and a worker's own call is answered", true}, nil
}

// honest is what the other worker says to the coordinator's process.
func (g *guarded) honest() intrusion {
	other := 1 - g.boss
	return intrusion{name: "worker", address: g.lease.Address, tls: shows(g.load(fmt.Sprintf("worker-%d", other))), path: "/jambalaya.Ranks/Hello",
		fields: g.fields(g.generation, other, g.boss)}
}

// fields are the metadata of a call by a rank, which is the worker's number here.
func (g *guarded) fields(generation uint64, from, to int) map[string]string {
	return map[string]string{"run": strconv.FormatUint(agent.RunHash(g.lease.Run), 16), "generation": strconv.FormatUint(generation, 10),
		"size": "2", "rank": strconv.Itoa(from), "to": strconv.Itoa(to), "channel": "", "lane": "0"}
}

// load reads a certificate as it is, valid or not.
func (g *guarded) load(file string) tls.Certificate {
	c, err := tls.LoadX509KeyPair(filepath.Join(g.certs, file+".pem"), filepath.Join(g.certs, file+".key"))
	if err != nil {
		return tls.Certificate{} // shown as none, which the honest call would not survive
	}
	return c
}

// intrusions lists the calls to be refused: each is the honest one with one fault.
func (g *guarded) intrusions() ([]intrusion, error) {
	foreign := &guarded{certs: filepath.Join(g.certs, "foreign")}
	past := func() time.Time { return time.Now().Add(-72 * time.Hour) }
	coming := func() time.Time { return time.Now().Add(72 * time.Hour) }
	other := fmt.Sprintf("worker-%d", 1-g.boss)
	for _, make := range []struct {
		dir  string
		plan pki.Plan
	}{
		{foreign.certs, pki.Plan{Workers: []string{strconv.Itoa(1 - g.boss)}}},
		{g.certs, pki.Plan{Workers: []string{"expired"}, Days: 1, Now: past}},
		{g.certs, pki.Plan{Workers: []string{"early"}, Days: 1, Now: coming}},
		{g.certs, pki.Plan{Workers: []string{"stranger"}}},
	} {
		if _, err := pki.Make(make.dir, make.plan); err != nil {
			return nil, err
		}
	}
	var list []intrusion
	add := func(name string, change func(*intrusion)) {
		i := g.honest()
		i.name = name
		change(&i)
		list = append(list, i)
	}
	shown := func(name string, c tls.Certificate) { add(name, func(i *intrusion) { i.tls = shows(c) }) }
	stolen := g.load("worker-stranger")
	stolen.Certificate = g.load(other).Certificate
	add("no TLS", func(i *intrusion) { i.tls = nil })
	add("TLS 1.2", func(i *intrusion) { i.tls.MinVersion, i.tls.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 })
	shown("no certificate", tls.Certificate{})
	shown("another authority", foreign.load(other))
	shown("expired certificate", g.load("worker-expired"))
	shown("certificate of the future", g.load("worker-early"))
	shown("another worker's certificate", g.load("worker-stranger"))
	shown("certificate without its key", stolen)
	for _, method := range []string{"Ranks/Hello", "Ranks/Abort", "Ranks/Stream"} {
		add("watcher calls "+method, func(i *intrusion) {
			i.tls, i.path = shows(g.load("watcher")), "/jambalaya."+method
		})
	}
	add("replayed connection", func(i *intrusion) { i.replay = true })
	add("call of a past generation", func(i *intrusion) { i.fields = g.fields(g.generation-1, 1-g.boss, g.boss) })
	add("call of another run", func(i *intrusion) { i.fields["run"] = "1" })
	add("call as the coordinator's rank", func(i *intrusion) { i.fields = g.fields(g.generation, g.boss, g.boss) })
	add("call without metadata", func(i *intrusion) { i.fields = nil })
	for _, path := range []string{"jambalaya.Ranks/Hello", "jambalaya.Ranks/Stream", "jambalaya.Control/Session", "/jambalaya.Ranks/", "/jambalaya.Ranks/Hello/",
		"/jambalaya.Ranks//Hello", "//jambalaya.Ranks/Hello", "/jambalaya.Ranks/hello", "/jambalaya.Ranks/../Ranks/Hello", "/grpc.health.v1.Health/Check", "/debug/pprof/", "/"} {
		add("path "+path, func(i *intrusion) { i.path = path })
	}
	return list, nil
}
