package launch

import (
	"strings"
	"testing"

	"jambalaya/internal/cli"
)

func TestPlaceFrom(t *testing.T) {
	t.Parallel()
	slurm := "SLURM_PROCID=3 SLURM_NTASKS=4 SLURM_LOCALID=1 SLURM_STEP_ID=0 SLURM_STEP_NODELIST=gpu[003-004]"
	for _, c := range []struct {
		env, join string
		want      Place
		fault     string
	}{
		{env: "", want: Place{Rank: -1}},
		{env: "RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 MASTER_ADDR=10.0.0.1 MASTER_PORT=7000", want: Place{1, 2, 1, "10.0.0.1:7000", "RANK"}},
		{env: "RANK=1 WORLD_SIZE=2 MASTER_ADDR=::1 " + slurm, want: Place{1, 2, 0, "[::1]:29500", "RANK"}},
		{env: slurm, want: Place{3, 4, 1, "gpu003:29500", "SLURM_PROCID"}},
		{env: slurm + " MASTER_ADDR=login MASTER_PORT=1", want: Place{3, 4, 1, "login:1", "SLURM_PROCID"}},
		{env: slurm + " JOB_COMPLETION_INDEX=9", want: Place{3, 4, 1, "gpu003:29500", "SLURM_PROCID"}},
		{env: strings.Replace(slurm, "SLURM_STEP_ID=0 ", "", 1), want: Place{Rank: -1}}, // the batch script
		{env: "JOB_COMPLETION_INDEX=2 MASTER_ADDR=run-0.run", want: Place{2, 0, 0, "run-0.run:29500", "JOB_COMPLETION_INDEX"}},
		{env: "RANK=0 WORLD_SIZE=2 MASTER_ADDR=a", join: "b:1", want: Place{0, 2, 0, "b:1", "RANK"}},
		{env: "RANK=2 WORLD_SIZE=2 MASTER_ADDR=a", fault: "environment: RANK: rank 2 of 2 processes"},
		{env: "RANK=one WORLD_SIZE=2 MASTER_ADDR=a", fault: `environment: RANK: "one" is not a number of processes`},
		{env: "RANK=0 WORLD_SIZE=2", fault: "environment: MASTER_ADDR: is not set, but there are 2 processes"},
		{join: "b", fault: `--join: "b" is not HOST:PORT`},
	} {
		vars := map[string]string{}
		for pair := range strings.FieldsSeq(c.env) {
			k, v, _ := strings.Cut(pair, "=")
			vars[k] = v
		}
		got, err := PlaceFrom(func(k string) string { return vars[k] }, c.join)
		if c.fault != "" {
			if err == nil || err.Error() != c.fault || cli.Code(err) != cli.CodeConfig {
				t.Errorf("%s: %v, want %s", c.env, err, c.fault)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", c.env, got, err, c.want)
		}
	}
}

func TestFirstNode(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"a": "a", "a,b": "a", "gpu[003-005,9],login1": "gpu003", "n[1,4]x,b": "n1x", "b,n[1-2]": "b", "": "", "n[1": "",
	} {
		if got := firstNode(list); got != want {
			t.Errorf("firstNode(%q) = %q, want %q", list, got, want)
		}
	}
}

// TestJoiningWorkersOfASchedulersTask: workers that one task of a scheduler starts to
// join a run are no ranks of the task, and differ in their place on the machine.
func TestJoiningWorkersOfASchedulersTask(t *testing.T) {
	for name, value := range map[string]string{"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0", "SLURM_STEP_ID": "0", "JOB_COMPLETION_INDEX": "3"} {
		t.Setenv(name, value)
	}
	l := &launcher{opt: Options{Joining: true, Procs: 2}}
	for index := range 2 {
		vars := map[string]string{}
		for _, pair := range l.environment(&child{index: index}) {
			k, v, _ := strings.Cut(pair, "=")
			vars[k] = v // the last one counts
		}
		got, err := PlaceFrom(func(k string) string { return vars[k] }, "10.0.0.1:7700")
		if want := (Place{Rank: -1, Local: index, Master: "10.0.0.1:7700"}); err != nil || got != want {
			t.Errorf("worker %d: %+v, %v, want %+v", index, got, err, want)
		}
	}
}
