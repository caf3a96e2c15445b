package faultproxy

import (
	"bytes"
	"errors"
	"io"
	"math/bits"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers every connection with what it says.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

// through connects by a proxy.
func through(t *testing.T, target string) (*TCP, *net.TCPConn) {
	t.Helper()
	p, err := ListenTCP("127.0.0.1:0", target, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return p, c.(*net.TCPConn)
}

// ask sends and returns the answer and how long it took.
func ask(c net.Conn, text []byte) ([]byte, time.Duration, error) {
	start := time.Now()
	if _, err := c.Write(text); err != nil {
		return nil, 0, err
	}
	got := make([]byte, len(text))
	_, err := io.ReadFull(c, got)
	return got, time.Since(start), err
}

func TestTransparent(t *testing.T) {
	t.Parallel()
	_, c := through(t, echo(t))
	text := bytes.Repeat([]byte("0123456789"), 10_000)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(text)
		sent <- errors.Join(err, c.CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestDelayAndRate(t *testing.T) {
	t.Parallel()
	p, c := through(t, echo(t))
	p.Set(Both, Fault{Delay: 40 * time.Millisecond})
	if _, took, err := ask(c, []byte("x")); err != nil || took < 80*time.Millisecond {
		t.Errorf("took %v, %v", took, err)
	}
	p.Set(Both, Fault{})
	p.Set(Forward, Fault{Rate: 100_000})
	if _, took, err := ask(c, make([]byte, 20_000)); err != nil || took < 180*time.Millisecond {
		t.Errorf("took %v, %v", took, err)
	}
}

// TestStall cuts one direction; what was sent meanwhile arrives when it heals.
func TestStall(t *testing.T) {
	t.Parallel()
	p, c := through(t, echo(t))
	if _, _, err := ask(c, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, d := range []Direction{Forward, Backward, Both} {
		p.Set(d, Fault{Stall: true})
		if _, err := c.Write([]byte("y")); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("direction %d: read %d, %v", d, n, err)
		}
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		p.Set(d, Fault{})
		b := make([]byte, 1)
		if _, err := io.ReadFull(c, b); err != nil || b[0] != 'y' {
			t.Errorf("direction %d: %q, %v", d, b, err)
		}
	}
}

// TestStallHoldsUpNewConnections: who connects during a partition gets no answer.
func TestStallHoldsUpNewConnections(t *testing.T) {
	t.Parallel()
	p, _ := through(t, echo(t))
	p.Set(Both, Fault{Stall: true})
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(50 * time.Millisecond))
	if _, _, err := ask(c, []byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	p, c := through(t, echo(t))
	if _, _, err := ask(c, []byte("x")); err != nil {
		t.Fatal(err)
	}
	p.Reset()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", p.Addr()); err != nil {
		t.Error(err)
	} else {
		defer c.Close()
		if _, _, err := ask(c, []byte("x")); err != nil {
			t.Errorf("a new connection: %v", err)
		}
	}
}

func TestRefusedTarget(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	p, err := ListenTCP("127.0.0.1:0", nobody, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := net.Dial("tcp", p.Addr()) // the reset may be here already
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("nobody answers, yet %v", err)
	}
}

func TestFlip(t *testing.T) {
	t.Parallel()
	p, c := through(t, echo(t))
	p.Set(Forward, Fault{Flip: 0.01})
	text := make([]byte, 10_000)
	got, _, err := ask(c, text)
	if err != nil {
		t.Fatal(err)
	}
	flipped := 0
	for _, b := range got {
		flipped += bits.OnesCount8(b)
	}
	if flipped < 50 || flipped > 200 {
		t.Errorf("%d bits of %d bytes", flipped, len(got))
	}
}

// udpEcho answers every datagram with itself.
func udpEcho(t *testing.T) string {
	t.Helper()
	l, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		b := make([]byte, maxDatagram)
		for {
			n, from, err := l.ReadFromUDP(b)
			if err != nil {
				return
			}
			l.WriteToUDP(b[:n], from)
		}
	}()
	return l.LocalAddr().String()
}

func TestUDP(t *testing.T) {
	t.Parallel()
	p, err := ListenUDP("127.0.0.1:0", udpEcho(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	c, err := net.Dial("udp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// count sends datagrams one by one and counts the answers.
	count := func(n int, patience time.Duration) (answers int) {
		b := make([]byte, 16)
		for range n {
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			for {
				c.SetReadDeadline(time.Now().Add(patience))
				if _, err := c.Read(b); err != nil {
					break
				}
				answers++
				if patience > time.Second {
					break // there is but one
				}
			}
		}
		return answers
	}
	if got := count(20, 10*time.Second); got != 20 {
		t.Errorf("%d of 20", got)
	}
	p.Set(Forward, Fault{Drop: 1})
	if got := count(3, 20*time.Millisecond); got != 0 {
		t.Errorf("dropped, yet %d", got)
	}
	p.Set(Forward, Fault{Twice: 1})
	if got := count(3, 100*time.Millisecond); got != 6 {
		t.Errorf("twice, yet %d of 3", got)
	}
	p.Set(Both, Fault{Stall: true})
	if got := count(1, 20*time.Millisecond); got != 0 {
		t.Errorf("stalled, yet %d", got)
	}
	p.Set(Both, Fault{})
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Errorf("after the stall: %v", err)
	}
}
