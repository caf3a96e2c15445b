package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"jambalaya/internal/clitest"
)

// machine is a network namespace: a machine with an address of its own, as far as the
// network is concerned.
type machine struct{ name, address string }

// newMachines makes two that reach each other by a cable. It skips the test where that
// is not allowed.
func newMachines(t *testing.T) (a, b machine) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("network namespaces need ip, of iproute2")
	}
	suffix := filepath.Base(t.TempDir()) + filepath.Base(filepath.Dir(t.TempDir()))
	suffix = suffix[len(suffix)-6:]
	a, b = machine{"jt-a" + suffix, "10.77.0.1"}, machine{"jt-b" + suffix, "10.77.0.2"}
	for i, m := range []machine{a, b} {
		if out, err := exec.Command("ip", "netns", "add", m.name).CombinedOutput(); err != nil {
			if i == 0 {
				t.Skipf("network namespaces are not allowed: %s", out)
			}
			t.Fatalf("%s: %v", out, err)
		}
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", m.name).Run() })
	}
	ip(t, "link", "add", "ca"+suffix, "netns", a.name, "type", "veth", "peer", "name", "cb"+suffix, "netns", b.name)
	for cable, m := range map[string]machine{"ca" + suffix: a, "cb" + suffix: b} {
		ip(t, "-n", m.name, "addr", "add", m.address+"/24", "dev", cable)
		ip(t, "-n", m.name, "link", "set", cable, "up")
		ip(t, "-n", m.name, "link", "set", "lo", "up")
	}
	return a, b
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// start starts the command on a machine.
func (m machine) start(t *testing.T, dir string, args ...string) (wait func() process) {
	t.Helper()
	here := clitest.Command(dir, args...)
	cmd := exec.Command("ip", append([]string{"netns", "exec", m.name}, here.Args...)...)
	cmd.Dir, cmd.Env = here.Dir, here.Env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return func() process { return waitFor(cmd, &stdout, &stderr) }
}

// TestTwoMachines trains one model on two machines that share a directory, and compares
// it with the same on one. Without certificates both machines refuse to talk.
func TestTwoMachines(t *testing.T) {
	t.Parallel()
	a, b := newMachines(t)
	dir := newWorkspace(t)
	if p := train(t, dir, "certs", "--workers", "1", "--worker", ""); p.Code != 0 {
		t.Fatal(p)
	}
	args := func(run string, more ...string) []string {
		return append(ofTiny("--out", run, "--set", "trainer.steps=200", "--set", "trainer.eval_every=100", "--set", "parallel.data=2"), more...)
	}
	bare := a.start(t, dir, args("bare", "--nproc", "1", "--listen", a.address+":7700")...)()
	if bare.Code != 78 || !strings.Contains(bare.Stderr, "not a loopback address, and there are no certificates; make them with: train certs") {
		t.Errorf("without certificates: %v", bare)
	}
	first := a.start(t, dir, args("two", "--nproc", "1", "--listen", a.address+":7700", "--certs", "certs")...)
	second := b.start(t, dir, args("two", "--join", a.address+":7700", "--certs", "certs")...)
	for _, wait := range []func() process{first, second} {
		if p := wait(); p.Code != 0 {
			t.Fatal(p)
		}
	}
	if p := train(t, dir, args("one", "--nproc", "2")...); p.Code != 0 {
		t.Fatal(p)
	}
	if metrics(t, filepath.Join(dir, "two")) != metrics(t, filepath.Join(dir, "one")) {
		t.Error("two machines have other metrics than one")
	}
}
