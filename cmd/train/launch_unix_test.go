//go:build unix

package main

import (
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// launch starts a run of two workers, and ends one of them, given by its rank, when the
// run has come to a validation.
func launchAndKill(t *testing.T, dir, rank string, args ...string) process {
	t.Helper()
	_, wait, out, seen := startAndRead(t, dir, "step 600: validation", args...)
	await(t, seen)
	found := regexp.MustCompile("worker " + rank + `: process (\d+)`).FindStringSubmatch(out())
	if found == nil {
		t.Fatal(out())
	}
	pid, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	return wait()
}

// TestLaunchSurvivesKills compares runs of two workers, in which one is killed, with
// one in which none is. Rank 1 is just a worker; rank 0 also coordinates and writes.
func TestLaunchSurvivesKills(t *testing.T) {
	t.Parallel()
	dir := newWorkspace(t)
	args := func(run string) []string {
		return ofTiny("--out", run, "--nproc", "2", "--set", "trainer.steps=900", "--set", "trainer.eval_every=200", "--set", "checkpoint.every=100")
	}
	whole := train(t, dir, args("whole")...)
	if whole.Code != 0 {
		t.Fatal(whole)
	}
	want := metrics(t, dir+"/whole")
	for _, rank := range []string{"0", "1"} {
		t.Run("rank "+rank, func(t *testing.T) {
			t.Parallel()
			p := launchAndKill(t, dir, rank, args("kill"+rank)...)
			if p.Code != 0 || !strings.Contains(p.Stdout, "worker "+rank+" was ended by signal: killed; it is started again") {
				t.Fatal(p)
			}
			if !strings.Contains(p.Stdout, "resumed from step") {
				t.Errorf("the second generation resumed nothing: %v", p)
			}
			if got := metrics(t, dir+"/kill"+rank); got != want {
				t.Error("the metrics are not those of the run that was left alone")
			}
		})
	}
}
