package rpc_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
)

// Bare gRPC, for comparison: streams of messages that nobody looks at, without
// checksums and without copies of our own.

const (
	rawChunk = 512 << 10
	rawLanes = 2
)

type rawCodec struct{}

func (rawCodec) Name() string                             { return "raw" }
func (rawCodec) Marshal(v any) (mem.BufferSlice, error)   { return mem.BufferSlice{v.(mem.Buffer)}, nil }
func (rawCodec) Unmarshal(_ mem.BufferSlice, _ any) error { return nil }

// rawData is what moves: as much as an all-reduce has, so that it comes from memory.
var rawData = sync.OnceValue(func() []byte { return bytes.Repeat([]byte{1}, 64<<20) })

var rawStream = &grpc.StreamDesc{StreamName: "Move", Handler: rawHandler, ClientStreams: true, ServerStreams: true}

// rawHandler takes all there is and, if asked, sends as much.
func rawHandler(_ any, s grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(s.Context())
	back := 0
	if _, err := fmt.Sscan(md.Get("back")[0], &back); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() { sent <- rawSend(s, back) }()
	err := rawDrain(s)
	return firstError(<-sent, err)
}

func rawSend(s interface{ SendMsg(any) error }, n int) error {
	data := rawData()
	for i := range n {
		if err := s.SendMsg(mem.SliceBuffer(data[i*rawChunk:][:rawChunk])); err != nil {
			return err
		}
	}
	return nil
}

func rawDrain(s interface{ RecvMsg(any) error }) error {
	for {
		switch err := s.RecvMsg(nil); err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

type rawServer struct {
	address string
	stop    func()
}

func listenRaw() (rawServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return rawServer{}, err
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.InitialWindowSize(4<<20), grpc.InitialConnWindowSize(16<<20),
		grpc.ReadBufferSize(128<<10), grpc.WriteBufferSize(128<<10))
	server.RegisterService(&grpc.ServiceDesc{ServiceName: "raw", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{*rawStream}}, 0)
	go server.Serve(l)
	return rawServer{l.Addr().String(), server.Stop}, nil
}

type rawClient [rawLanes]*grpc.ClientConn

func dialRaw(b *testing.B, address string) rawClient {
	b.Helper()
	var c rawClient
	for i := range c {
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})), grpc.WithInitialWindowSize(4<<20), grpc.WithInitialConnWindowSize(16<<20),
			grpc.WithReadBufferSize(128<<10), grpc.WithWriteBufferSize(128<<10), grpc.WithDisableRetry())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close() })
		c[i] = conn
	}
	return c
}

// move sends size bytes, and takes as many at the same time if both is set.
func (c rawClient) move(ctx context.Context, size int, both bool) (time.Duration, error) {
	start := time.Now()
	var wait sync.WaitGroup
	errs := make([]error, 2*rawLanes)
	for lane, conn := range c {
		wait.Go(func() {
			n, back := size/rawChunk/rawLanes, 0
			if both {
				back = n
			}
			ctx := metadata.AppendToOutgoingContext(ctx, "back", fmt.Sprint(back))
			s, err := conn.NewStream(ctx, rawStream, "/raw/Move")
			if err != nil {
				errs[lane] = err
				return
			}
			wait.Go(func() {
				err := rawSend(s, n)
				s.CloseSend()
				if err != nil && err != io.EOF {
					errs[rawLanes+lane] = err
				}
			})
			if err := rawDrain(s); err != nil {
				errs[lane] = err
			}
		})
	}
	wait.Wait()
	return time.Since(start), firstError(errs...)
}
