// Package nccl runs the collectives of package parallel on NVIDIA GPUs, through the
// NCCL library, which it loads when the program runs:
//
//	m, err := nccl.NewMember(backend, transport, parallel.GroupOptions{})
//	if errors.Is(err, cuda.ErrUnavailable) {
//		... // parallel.NewGroup, through the host's memory
//	}
//	g, err := m.NewGroup(ctx, "dense", mesh.World())
//	defer g.Close()
//	err = g.AllReduceTensor(ctx, op, 0, gradient) // where it lies, while plans go on
//	took, err := g.Finish(ctx, op)
//
// The transport of the generation introduces the ranks to each other and carries
// their aborts; the data take NCCL's own ways. Group is a parallel.Group, so that
// everything written for one runs on the other; its methods for host data copy them
// to the device and back.
//
// # Invariants
//
// Each rank has a device of its own: NCCL refuses two ranks on one. Where GPUs are
// shared, ranks go through the host's memory (package rpc).
//
// For the same bits run after run, NCCL is confined to its ring and its simple
// protocol and kept from summing in switches (NCCL_ALGO, NCCL_PROTO,
// NCCL_NVLS_ENABLE; what the user sets stands). The order of a sum is NCCL's, so its
// bits differ from those of the other transports.
//
// # Failure
//
// Communicators do not block: every operation is watched until the device has done
// it. An error of NCCL, a cancelled context, the timeout of the group, and an abort
// or the loss of another rank, which the transport tells of, end the wait, abort all
// communicators of the rank, and with them the generation. The device goes on with the
// next one.
package nccl
