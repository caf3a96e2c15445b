package chaos

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// rateRows measure what moves between two workers.
var rateRows = []row{
	{28, "all-reduce of 64 MiB, 2 processes", "60% of raw gRPC both ways, same bits", allReduceRate},
}

var (
	ofOneWay   = regexp.MustCompile(`([0-9.]+) %of-oneway`)
	ofBothWays = regexp.MustCompile(`([0-9.]+) %of-bothways`)
)

// allReduceRate runs the benchmark and the comparison of bits that the package of the
// transport has, in the module that the working directory is in. An all-reduce of two
// moves its size both ways at once; that is what it is compared with.
func allReduceRate(ctx context.Context, l *lab) (result, error) {
	repeats, size := l.reps(50, 1000), l.reps(1, 64)
	if _, err := l.goTest(ctx, "-timeout", "1h", "-run", "TestTwoProcesses$", "-args", fmt.Sprintf("-repeats=%d", repeats), fmt.Sprintf("-mib=%d", size)); err != nil {
		return result{}, err
	}
	text, err := l.goTest(ctx, "-run", "^$", "-bench", "AllReduce$", "-benchtime", fmt.Sprintf("%dx", l.reps(8, 40)))
	if err != nil {
		return result{}, err
	}
	one, both := ofOneWay.FindStringSubmatch(text), ofBothWays.FindStringSubmatch(text)
	if one == nil || both == nil {
		return result{}, fmt.Errorf("the benchmark reports no rate: %s", text)
	}
	share, err := strconv.ParseFloat(both[1], 64)
	figure := fmt.Sprintf("%.0f%% of raw gRPC both ways (%s%% of one way alone); the same bits in %d all-reduces of %d MiB", share, one[1], repeats, size)
	return result{figure, share >= 60}, err
}

func (l *lab) goTest(ctx context.Context, args ...string) (string, error) {
	p, err := l.startWith(ctx, func(c *exec.Cmd) { c.Dir = "" }, "go", append([]string{"test", "jambalaya/parallel/rpc", "-count=1"}, args...)...)
	if err != nil {
		return "", err
	}
	if code := p.code(); code != 0 {
		return "", fmt.Errorf("go test %v: exit code %d: %s", args, code, p.lastLine())
	}
	return p.out.String(), nil
}
