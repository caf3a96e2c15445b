// Package rpc carries messages between the ranks of a run, which are processes on
// one machine or several, over gRPC.
//
//	node, err := rpc.Listen("127.0.0.1:0", rpc.Options{})      // once a process
//	transport, err := node.Join(ctx, identity, rank, addresses) // once a generation
//	world, err := parallel.NewGroup(transport, "dense", ranks, parallel.GroupOptions{})
//
// Join returns when all ranks have joined the generation, and so is where a wrong
// address or a worker that never came is found.
//
// # Format
//
// A pair of ranks has two connections in each direction. A channel of package
// parallel is a long-lived stream on each of them, its messages taking turns, so
// that a channel that is not read holds up no other. The stream's metadata say run,
// generation, rank, channel and lane; a message is a header of 64 bytes with
// checksums and up to 1 MiB of data, without protobuf. The codec passes pooled
// buffers to gRPC and copies what it receives once.
//
// # Security
//
// Without Options.Credentials a node listens and connects on loopback only. With them,
// both sides prove who they are (TLS 1.3, package pki): who calls must have a role that
// may call the method, and who claims to be a rank must have the certificate of the
// worker that Expect named. What is not allowed is refused, methods that do not exist
// included. Connections, streams, messages and header lists are bounded, and nothing is
// allocated for a message before its header has been checked. Who is refused for its
// certificate is told by which side, and what to do; who is no worker is read slowly.
//
// # Failure
//
// A rank that gives up says so to all others, with its reason; one that dies is
// noticed by its broken streams, and whoever notices tells the others. A stream of an
// earlier generation is refused with parallel.ErrGeneration; one of a later
// generation waits until this rank has joined it.
package rpc
