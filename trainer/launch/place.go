package launch

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"jambalaya/internal/cli"
)

// DefaultPort is where the first worker is met if nothing says otherwise.
const DefaultPort = 29500

// Place is where a process stands among those of a run, as far as its environment
// says. The generation has the last word about ranks.
type Place struct {
	Rank   int    // -1: not known
	World  int    // processes that were started; 0: not known
	Local  int    // rank on the machine
	Master string // host:port of the first; "" if not known
	Source string // where this was read: "RANK", "SLURM_PROCID" or "JOB_COMPLETION_INDEX", "" for nowhere
}

// Distributed reports whether there are other processes.
func (p Place) Distributed() bool { return p.World > 1 || p.Master != "" }

// from names where the master's address was given.
func (p Place) from(joining bool) string {
	switch {
	case joining:
		return "--join"
	case p.Source == "SLURM_PROCID":
		return "SLURM_JOB_NODELIST, or MASTER_ADDR"
	}
	return "MASTER_ADDR"
}

// PlaceFrom reads the environment. What is set first counts: RANK, WORLD_SIZE,
// LOCAL_RANK, MASTER_ADDR and MASTER_PORT; the variables of Slurm; the index of a
// Kubernetes job. join, if it is not "", takes the place of the master's address.
func PlaceFrom(getenv func(string) string, join string) (Place, error) {
	e := environment{getenv: getenv}
	p := Place{Rank: -1, Local: e.number("LOCAL_RANK", 0)}
	switch {
	case getenv("RANK") != "" || getenv("WORLD_SIZE") != "":
		p.Source = "RANK"
		p.Rank, p.World = e.number("RANK", -1), e.number("WORLD_SIZE", 0)
	case getenv("SLURM_PROCID") != "" && getenv("SLURM_NTASKS") != "" && getenv("SLURM_STEP_ID") != "":
		// Without SLURM_STEP_ID this is the batch script itself, not a task of srun.
		p.Source = "SLURM_PROCID"
		p.Rank, p.World, p.Local = e.number("SLURM_PROCID", -1), e.number("SLURM_NTASKS", 0), e.number("SLURM_LOCALID", 0)
	case getenv("JOB_COMPLETION_INDEX") != "":
		p.Source = "JOB_COMPLETION_INDEX"
		p.Rank = e.number("JOB_COMPLETION_INDEX", -1)
	}
	p.Master = e.master(join, p)
	if e.err == nil && p.World > 0 && p.Rank >= p.World {
		e.fail(p.Source, "rank %d of %d processes", p.Rank, p.World)
	}
	return p, cli.Config(e.err)
}

// environment reads variables and remembers what is wrong with them.
type environment struct {
	getenv func(string) string
	err    error
}

func (e *environment) fail(variable, format string, args ...any) {
	e.err = errors.Join(e.err, fmt.Errorf("environment: %s: %s", variable, fmt.Sprintf(format, args...)))
}

func (e *environment) number(name string, standard int) int {
	text := e.getenv(name)
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 1<<20 {
		e.fail(name, "%q is not a number of processes", text)
		return standard
	}
	return n
}

// master is the address of the first process.
func (e *environment) master(join string, p Place) string {
	if join != "" {
		host, port, err := net.SplitHostPort(join)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || perr != nil || n == 0 {
			e.err = errors.Join(e.err, fmt.Errorf("--join: %q is not HOST:PORT", join))
		}
		return join
	}
	host := e.getenv("MASTER_ADDR")
	if host == "" && p.Source == "SLURM_PROCID" && p.World > 1 {
		nodes := e.getenv("SLURM_STEP_NODELIST")
		if nodes == "" {
			nodes = e.getenv("SLURM_JOB_NODELIST")
		}
		host = firstNode(nodes)
		if host == "" {
			e.fail("SLURM_JOB_NODELIST", "%q names no machine", nodes)
		}
	}
	if host == "" {
		if p.World > 1 {
			e.fail("MASTER_ADDR", "is not set, but there are %d processes", p.World)
		}
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(e.number("MASTER_PORT", DefaultPort)))
}

// firstNode is the first machine of a Slurm list: gpu[003-005,9],login1 begins with
// gpu003.
func firstNode(list string) string {
	open := strings.IndexByte(list, '[')
	comma := strings.IndexByte(list, ',')
	if open < 0 || comma >= 0 && comma < open {
		first, _, _ := strings.Cut(list, ",")
		return first
	}
	inside, rest, ok := strings.Cut(list[open+1:], "]")
	if !ok {
		return ""
	}
	number, _, _ := strings.Cut(inside, ",")
	number, _, _ = strings.Cut(number, "-")
	suffix, _, _ := strings.Cut(rest, ",")
	return list[:open] + number + suffix
}
