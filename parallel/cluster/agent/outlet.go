package agent

import (
	"io"
	"log"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// outlet is memberlist's transport, but that its connections come from an address that
// was chosen. Its datagrams do so anyway: they come from the socket that listens.
type outlet struct {
	*memberlist.NetTransport
	from net.Addr // nil: any
}

// listen opens the ports of the gossip. Any port has to be free for both TCP and UDP,
// which the first that is found need not be.
func listen(host string, port int, from string) (*outlet, error) {
	config := &memberlist.NetTransportConfig{BindAddrs: []string{host}, BindPort: port, Logger: log.New(io.Discard, "", 0)}
	t, err := memberlist.NewNetTransport(config)
	for tries := 0; err != nil && port == 0 && tries < 10; tries++ {
		t, err = memberlist.NewNetTransport(config)
	}
	if err != nil {
		return nil, err
	}
	o := &outlet{NetTransport: t}
	if from != "" {
		o.from = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	return o, nil
}

// DialTimeout implements memberlist.Transport.
func (o *outlet) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return o.DialAddressTimeout(memberlist.Address{Addr: address}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (o *outlet) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, LocalAddr: o.from}
	return d.Dial("tcp", a.Addr)
}
