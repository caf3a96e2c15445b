package rpc

import (
	"context"
	"fmt"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"jambalaya/parallel"
)

const (
	serviceName  = "jambalaya.Ranks"
	methodHello  = "/jambalaya.Ranks/Hello"
	methodAbort  = "/jambalaya.Ranks/Abort"
	methodStream = "/jambalaya.Ranks/Stream"
)

// service lists the three methods there are.
var service = grpc.ServiceDesc{
	ServiceName: serviceName,
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		{MethodName: "Hello", Handler: unary((*Node).hello)},
		{MethodName: "Abort", Handler: unary((*Node).aborted)},
	},
	Streams: []grpc.StreamDesc{{StreamName: "Stream", Handler: func(srv any, s grpc.ServerStream) error {
		return srv.(*Node).stream(s)
	}, ClientStreams: true, ServerStreams: true}},
}

var streamDesc = &grpc.StreamDesc{StreamName: "Stream", ClientStreams: true, ServerStreams: true}

// unary adapts a method to gRPC: a message in, an empty one out.
func unary(method func(n *Node, ctx context.Context, payload []byte) error) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		name, _ := grpc.Method(ctx)
		if err := authorize(ctx, name); err != nil {
			return nil, err
		}
		var in received
		if err := decode(&in); err != nil {
			return nil, err
		}
		if in.err != nil {
			return nil, status.Error(codes.InvalidArgument, in.err.Error())
		}
		defer in.Payload.Free()
		if err := method(srv.(*Node), ctx, in.Bytes()); err != nil {
			return nil, err
		}
		return &parallel.Message{}, nil
	}
}

// caller is what every call says about where it comes from.
type caller struct {
	id      parallel.Identity
	size    int
	rank    int
	to      int // rank that it means to reach
	channel string
	lane    int
}

func (c caller) outgoing(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx,
		"run", strconv.FormatUint(c.id.Run, 16),
		"generation", strconv.FormatUint(c.id.Generation, 10),
		"size", strconv.Itoa(c.size),
		"rank", strconv.Itoa(c.rank),
		"to", strconv.Itoa(c.to),
		"channel", c.channel,
		"lane", strconv.Itoa(c.lane))
}

// incoming reads what outgoing wrote.
func incoming(ctx context.Context) (caller, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	var bad error
	text := func(key string) string {
		if v := md.Get(key); len(v) == 1 {
			return v[0]
		}
		bad = status.Errorf(codes.InvalidArgument, "no %s in the call", key)
		return ""
	}
	number := func(key string, base, bits int) uint64 {
		n, err := strconv.ParseUint(text(key), base, bits)
		if err != nil && bad == nil {
			bad = status.Errorf(codes.InvalidArgument, "%s of the call: %v", key, err)
		}
		return n
	}
	c := caller{
		id:      parallel.Identity{Run: number("run", 16, 64), Generation: number("generation", 10, 64)},
		size:    int(number("size", 10, 31)),
		rank:    int(number("rank", 10, 31)),
		to:      int(number("to", 10, 31)),
		channel: text("channel"),
		lane:    int(number("lane", 10, 31)),
	}
	return c, bad
}

// refusal is how a server says that a call is of another generation; clients turn
// the code back into the error.
func refusal(format string, args ...any) error {
	return status.Errorf(codes.FailedPrecondition, format, args...)
}

// errorOf translates the error of a call to a rank.
func errorOf(rank int, err error) error {
	switch s := status.Convert(err); s.Code() {
	case codes.FailedPrecondition:
		return fmt.Errorf("%w: rank %d: %s", parallel.ErrGeneration, rank, s.Message())
	case codes.InvalidArgument, codes.PermissionDenied, codes.Unimplemented:
		return fmt.Errorf("rank %d refuses: %s", rank, s.Message())
	default:
		return fmt.Errorf("%w: rank %d: %s", parallel.ErrLost, rank, s.Message())
	}
}
