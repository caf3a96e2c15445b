package launch

import (
	"context"
	"strconv"
	"time"

	"jambalaya/internal/vfs"
	"jambalaya/parallel/cluster"
	"jambalaya/parallel/rpc"
)

// watch asks the coordinator, whoever that is at the moment, how the run stands, and
// shows it, until the context ends.
func (l *launcher) watch(ctx context.Context, dir vfs.FS) {
	creds, err := l.opt.credentials(strconv.Itoa(max(l.opt.Place.Rank, 0) * l.opt.Procs))
	if err != nil {
		l.view.printf("warning: progress cannot be shown: %v", err)
		return
	}
	at, err := addressesOf(l.opt)
	if err != nil {
		l.view.printf("warning: progress cannot be shown: %v", err)
		return
	}
	node, err := rpc.Listen("127.0.0.1:0", l.opt.network(creds, at.from))
	if err != nil {
		l.view.printf("warning: progress cannot be shown: %v", err)
		return
	}
	defer node.Close()
	for {
		record, err := cluster.ReadLease(dir, ".")
		if err == nil && record.Address != "" && !record.Released {
			l.watchOne(ctx, node, record.Address)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// watchOne shows what one coordinator says until its session ends.
func (l *launcher) watchOne(ctx context.Context, node *rpc.Node, address string) {
	opening, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := node.Open(opening, address)
	if err != nil {
		return
	}
	defer s.Break()
	defer context.AfterFunc(ctx, s.Break)()
	text, err := (&cluster.Message{Kind: cluster.KindWatch}).Encode()
	if err != nil || s.Send(text) != nil {
		return
	}
	for {
		text, err := s.Recv()
		if err != nil {
			return
		}
		m, err := cluster.Decode(text)
		if err != nil {
			return
		}
		if m.Status != nil {
			l.metrics.set(*m.Status)
			l.view.show(*m.Status)
			l.reached.Store(max(l.reached.Load(), m.Status.Step))
		}
	}
}
