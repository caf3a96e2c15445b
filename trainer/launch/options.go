package launch

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"jambalaya/internal/cli"
	"jambalaya/internal/pki"
	"jambalaya/parallel/cluster"
	"jambalaya/parallel/rpc"
	"jambalaya/trainer"
)

// Options are what a worker or a launcher needs besides the configuration.
type Options struct {
	Name   string // of the preset
	Out    string // the run's directory, which all machines share
	Fresh  bool   // move an earlier run there aside
	Stdout *os.File

	Procs  int      // workers to start on this machine
	Args   []string // of the command, for them
	Place  Place
	Listen string // host:port of this machine's first worker; "" for what the master's address suggests
	// Advertise is the host:port at which others reach what Listen names, if that is
	// another one for them: behind NAT, a proxy or a published port. "": Listen.
	Advertise string
	Joining   bool   // another machine has the run: --join was given
	Metrics   string // host:port of the metrics, "off" for none
	Certs     string // directory of certificates and gossip key; "" for none, which is for loopback
	// Insecure allows to go without certificates on networks where nobody else is.
	Insecure bool
}

// settings are the protocol's for a configuration.
func settings(cfg trainer.Config, run string) cluster.Settings {
	p := cfg.Parallel
	wanted := p.Mesh().Size()
	s := cluster.Defaults(run, cluster.Mesh{Data: p.Data, Expert: p.Expert})
	if p.MinWorkers > 0 {
		for n := wanted - 1; n >= p.MinWorkers; n-- {
			if c, err := cfg.OnRanks(n); err == nil {
				s.Meshes = append(s.Meshes, cluster.Mesh{Data: c.Parallel.Data, Expert: c.Parallel.Expert})
			}
		}
	}
	s.JoinWindow = time.Duration(p.JoinWindowSeconds) * time.Second
	s.Restarts = p.Restarts
	s.Hang = time.Duration(cfg.Trainer.HangSeconds) * time.Second
	return s
}

// unique is new for each start of a process.
func unique() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// workerName names a worker's place: what is started there again has the same name.
func workerName(o Options, at addresses, process string) string {
	if o.Place.Rank >= 0 && !o.Joining {
		return strconv.Itoa(o.Place.Rank)
	}
	host, _, _ := net.SplitHostPort(at.node.reached(at.node.listen))
	launcher := os.Getenv(launchedVariable)
	if launcher == "" {
		launcher = process
	}
	return fmt.Sprintf("%s-%s-%d", host, launcher, o.Place.Local)
}

// credentials opens the certificate of a worker: the one of its name, else the one for
// all workers. Without a directory there are none.
func (o Options) credentials(name string) (*pki.Credentials, error) {
	if o.Certs == "" {
		return nil, nil
	}
	file := "worker-" + name
	if _, err := os.Stat(filepath.Join(o.Certs, file+".pem")); err != nil {
		file = "worker"
	}
	c, err := pki.Open(o.Certs, file)
	if err != nil {
		return nil, cli.Config(fmt.Errorf("--certs: worker %s: %w", name, err))
	}
	return c, nil
}

// network is how a process with these credentials talks to others, from an address or any.
func (o Options) network(c *pki.Credentials, from string) rpc.Options {
	return rpc.Options{Credentials: c, Plaintext: o.Insecure, From: from}
}
