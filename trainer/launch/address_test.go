package launch

import (
	"errors"
	"net"
	"strings"
	"testing"

	"jambalaya/internal/cli"
	"jambalaya/parallel/cluster/agent"
	"jambalaya/parallel/rpc"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	at := func(rank, local int, master, listen, advertise string) Options {
		return Options{Place: Place{Rank: rank, Local: local, Master: master}, Listen: listen, Advertise: advertise}
	}
	for _, c := range []struct {
		o                                            Options
		gossip, node, gossipFor, nodeFor, from, seed string
		fault                                        string
	}{
		{o: at(-1, 0, "", "", ""), gossip: "127.0.0.1:0", node: "127.0.0.1:0"},
		{o: at(0, 0, "127.0.0.1:7000", "", ""), gossip: "127.0.0.1:7000", node: "127.0.0.1:0"},
		{o: at(1, 1, "127.0.0.1:7000", "", ""), gossip: "127.0.0.1:0", node: "127.0.0.1:0", seed: "127.0.0.1:7000"},
		{o: at(0, 0, "10.0.0.1:7000", "10.0.0.1:7000", ""), gossip: "10.0.0.1:7000", node: "10.0.0.1:7001", from: "10.0.0.1"},
		{o: at(1, 1, "10.0.0.1:7000", "10.0.0.1:7000", ""), gossip: "10.0.0.1:7002", node: "10.0.0.1:7003", from: "10.0.0.1", seed: "10.0.0.1:7000"},
		{o: at(3, 1, "9.9.9.9:1", "10.0.0.1:7000", "8.8.8.8:500"), gossip: "10.0.0.1:7002", node: "10.0.0.1:7003",
			gossipFor: "8.8.8.8:502", nodeFor: "8.8.8.8:503", from: "10.0.0.1", seed: "9.9.9.9:1"},
		{o: at(0, 0, "8.8.8.8:500", "", "8.8.8.8:500"), gossip: "0.0.0.0:500", node: "0.0.0.0:501", gossipFor: "8.8.8.8:500", nodeFor: "8.8.8.8:501"},
		{o: at(0, 0, "", "", "[2001:db8::1]:500"), gossip: "[::]:500", node: "[::]:501", gossipFor: "[2001:db8::1]:500", nodeFor: "[2001:db8::1]:501"},
		{o: at(0, 0, "", "10.0.0.1", ""), fault: `--listen: "10.0.0.1" is not HOST:PORT`},
		{o: at(0, 0, "", "10.0.0.1:0", ""), fault: `--listen: "10.0.0.1:0" is not HOST:PORT`},
		{o: at(0, 0, "", ":7000", ""), fault: `--listen: ":7000" is not HOST:PORT`},
		{o: at(0, 0, "", "0.0.0.0:7000", ""), fault: "--listen 0.0.0.0:7000: others cannot be told to come to 0.0.0.0; say where they reach this machine with --advertise HOST:PORT"},
		{o: at(0, 0, "", "0.0.0.0:7000", "[::]:1"), fault: "--advertise [::]:1: nobody can come to ::; name an address of this machine that others reach"},
		{o: at(0, 0, "", "", "host"), fault: `--advertise: "host" is not HOST:PORT`},
		{o: at(0, 9, "", "10.0.0.1:65530", ""), fault: "--listen 10.0.0.1:65530: worker 9 of this machine needs the ports 65548 and 65549, which do not exist; take a lower one"},
	} {
		a, err := addressesOf(c.o)
		if c.fault != "" {
			if err == nil || err.Error() != c.fault || cli.Code(err) != cli.CodeConfig {
				t.Errorf("%+v: %v, want %s", c.o, err, c.fault)
			}
			continue
		}
		got := []string{a.gossip.listen, a.node.listen, a.gossip.advertise, a.node.advertise, a.from, strings.Join(a.seeds, " ")}
		if want := []string{c.gossip, c.node, c.gossipFor, c.nodeFor, c.from, c.seed}; err != nil || strings.Join(got, ",") != strings.Join(want, ",") {
			t.Errorf("%+v: %q, %v; want %q", c.o, got, err, want)
		}
	}
}

// FuzzPlace: no environment and no address of the command line panics, and what is taken
// can be listened on and told others.
func FuzzPlace(f *testing.F) {
	f.Add("1", "2", "10.0.0.1", "7000", "a:1", "10.0.0.1:7000", "8.8.8.8:1", false)
	f.Add("-1", "x", "::1", "", "", "0.0.0.0:1", "[::1]:65535", true)
	f.Add("0", "1", "gpu[003-005,9],n", "99999", ":", "[", "]:", true)
	f.Fuzz(func(t *testing.T, rank, world, master, port, join, listen, advertise string, slurm bool) {
		env := map[string]string{"RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": master, "MASTER_PORT": port}
		if slurm {
			env = map[string]string{"SLURM_PROCID": rank, "SLURM_NTASKS": world, "SLURM_STEP_ID": "0", "SLURM_JOB_NODELIST": master, "SLURM_LOCALID": port}
		}
		place, err := PlaceFrom(func(name string) string { return env[name] }, join)
		if err != nil && cli.Code(err) != cli.CodeConfig {
			t.Errorf("%v is not of the configuration", err)
		}
		o := Options{Place: place, Listen: listen, Advertise: advertise}
		if err := o.checkAddresses(); err != nil {
			if cli.Code(err) != cli.CodeConfig {
				t.Errorf("%v is not of the configuration", err)
			}
			return
		}
		for _, address := range []string{listen, advertise} {
			if host, port, err := net.SplitHostPort(address); address != "" && (err != nil || host == "" || port == "" || port == "0") {
				t.Errorf("%q was taken", address)
			}
		}
	})
}

// TestExplain: who finds a port taken, by gossip or by anything else, hears where another
// one is chosen, and who listens on an address of another machine, that it is one.
func TestExplain(t *testing.T) {
	t.Parallel()
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	_, gossip := agent.StartGossip(agent.GossipOptions{Address: held.Addr().String(), Node: "127.0.0.1:1"})
	_, node := rpc.Listen(held.Addr().String(), rpc.Options{})
	for _, err := range []error{gossip, node} {
		for where, o := range map[string]Options{
			"MASTER_PORT": {Place: Place{Master: held.Addr().String()}}, "--listen": {Listen: "a:1", Advertise: "b:1"}, "--advertise": {Advertise: "b:1"},
		} {
			if said := o.explain(err).Error(); !strings.Contains(said, held.Addr().String()) || !strings.Contains(said, "address already in use: another run may hold it") ||
				!strings.Contains(said, "choose another port with "+where+",") {
				t.Errorf("%+v: %s", o, said)
			}
		}
	}
	_, elsewhere := rpc.Listen("192.0.2.1:7700", rpc.Options{Plaintext: true}) // an address for documentation
	if said := (Options{Listen: "192.0.2.1:7700"}).explain(elsewhere).Error(); !strings.Contains(said, "192.0.2.1:7700") || !strings.Contains(said, "this machine has no such address; give --listen one that it has") {
		t.Error(said)
	}
	if other := errors.New("no such host"); (Options{}).explain(other) != other {
		t.Error("another error is taken for that of a port")
	}
}
