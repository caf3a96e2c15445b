package rpc_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"jambalaya/parallel"
	"jambalaya/parallel/rpc"
)

// peerVariable is set for a second process: the address of the first one.
const peerVariable = "JAMBALAYA_TEST_PEER"

var identity = parallel.Identity{Run: 1, Generation: 1}

// serve is the second process: rank 1, which does what rank 0 broadcasts.
func serve(address string) error {
	ctx := context.Background()
	node, err := rpc.Listen("127.0.0.1:0", rpc.Options{})
	if err != nil {
		return err
	}
	raw, err := listenRaw()
	if err != nil {
		return err
	}
	defer raw.stop()
	fmt.Println(node.Addr(), raw.address)
	transport, err := node.Join(ctx, identity, 1, []string{address, node.Addr()})
	if err != nil {
		return err
	}
	g, err := parallel.NewGroup(transport, "all", []int{0, 1}, parallel.GroupOptions{})
	if err != nil {
		return err
	}
	var x []float32
	for {
		n := []int64{0}
		err := parallel.Broadcast(ctx, g, parallel.Op{Name: "length"}, 0, n)
		if errors.Is(err, parallel.ErrLost) {
			return node.Close() // the first process is done
		}
		if err != nil {
			return err
		}
		if len(x) != int(n[0]) {
			x = make([]float32, n[0])
		}
		fill(x, 1)
		if err := g.Barrier(ctx, parallel.Op{Name: "filled"}); err != nil {
			return err
		}
		if err := g.AllReduce(ctx, parallel.Op{Name: "gradients"}, x); err != nil {
			return err
		}
	}
}

// fill gives a rank's numbers.
func fill(x []float32, rank int) {
	for i := range x {
		x[i] = float32(i%1013)*float32(rank+1) + 0.1
	}
}

// pair is the first process: rank 0.
type pair struct {
	node  *rpc.Node
	child *exec.Cmd
	group parallel.Group
	raw   string // address of the second process's bare gRPC server
}

// startPair starts the second process.
func startPair(tb testing.TB) *pair {
	tb.Helper()
	node, err := rpc.Listen("127.0.0.1:0", rpc.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), peerVariable+"="+node.Addr())
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := child.Start(); err != nil {
		tb.Fatal(err)
	}
	p := &pair{node: node, child: child}
	tb.Cleanup(func() {
		node.Close()
		child.Process.Kill()
		child.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	var address string
	if _, err := fmt.Sscan(line, &address, &p.raw); err != nil {
		tb.Fatal(err)
	}
	transport, err := node.Join(tb.Context(), identity, 0, []string{node.Addr(), address})
	if err != nil {
		tb.Fatal(err)
	}
	p.group, err = parallel.NewGroup(transport, "all", []int{0, 1}, parallel.GroupOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// allReduce sums n numbers of both processes into x and returns the time it took.
func (p *pair) allReduce(ctx context.Context, x []float32) (time.Duration, error) {
	if err := parallel.Broadcast(ctx, p.group, parallel.Op{Name: "length"}, 0, []int64{int64(len(x))}); err != nil {
		return 0, err
	}
	fill(x, 0)
	if err := p.group.Barrier(ctx, parallel.Op{Name: "filled"}); err != nil {
		return 0, err
	}
	start := time.Now()
	err := p.group.AllReduce(ctx, parallel.Op{Name: "gradients"}, x)
	return time.Since(start), err
}

var (
	repeats  = flag.Int("repeats", 20, "all-reduces between two processes whose bits are compared")
	mebibyte = flag.Int("mib", 1, "size of each")
)

func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	n := *mebibyte<<18 + 3
	want, other := make([]float32, n), make([]float32, n)
	fill(want, 0)
	fill(other, 1)
	for i := range want {
		want[i] += other[i]
	}
	x := make([]float32, len(want))
	for range *repeats {
		if _, err := p.allReduce(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(x, want, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }) {
			t.Fatal("other bits than those of the plain sum")
		}
	}
}

// TestKilled: a rank that dies is named.
func TestKilled(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	x := make([]float32, 1<<16)
	if _, err := p.allReduce(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	if err := p.child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	err := p.group.AllReduce(t.Context(), parallel.Op{Step: 8, Name: "gradients"}, x)
	if !errors.Is(err, parallel.ErrLost) || !strings.Contains(err.Error(), "rank lost: rank 1") {
		t.Errorf("got %v, want %v", err, parallel.ErrLost)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("noticed after %v", took)
	}
}

// BenchmarkAllReduce sums 64 MiB of two processes, and compares with what bare gRPC
// moves between the same processes, in one direction and in both at once. An
// all-reduce of two ranks moves its size in both directions.
func BenchmarkAllReduce(b *testing.B) {
	const size = 64 << 20
	p := startPair(b)
	x := make([]float32, size/4)
	rate := func(times []time.Duration) float64 {
		slices.Sort(times)
		return size / times[len(times)/2].Seconds() / 1e9
	}
	var reduce, oneWay, bothWays []time.Duration
	raw := dialRaw(b, p.raw)
	for b.Loop() {
		for _, measure := range []struct {
			times *[]time.Duration
			once  func() (time.Duration, error)
		}{
			{&reduce, func() (time.Duration, error) { return p.allReduce(b.Context(), x) }},
			{&oneWay, func() (time.Duration, error) { return raw.move(b.Context(), size, false) }},
			{&bothWays, func() (time.Duration, error) { return raw.move(b.Context(), size, true) }},
		} {
			took, err := measure.once()
			if err != nil {
				b.Fatal(err)
			}
			*measure.times = append(*measure.times, took)
		}
	}
	b.ReportMetric(rate(reduce), "allreduce-GB/s")
	b.ReportMetric(rate(oneWay), "raw-oneway-GB/s")
	b.ReportMetric(rate(bothWays), "raw-bothways-GB/s")
	b.ReportMetric(100*rate(reduce)/rate(oneWay), "%of-oneway")
	b.ReportMetric(100*rate(reduce)/rate(bothWays), "%of-bothways")
}
