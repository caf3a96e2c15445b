package chaos

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"jambalaya/parallel"
)

// intrusionTime is how long a process may take to refuse a call.
const intrusionTime = 5 * time.Second

// intrusion is a call as no client of gRPC would make it.
type intrusion struct {
	name    string
	address string
	tls     *tls.Config // nil: in plain text
	path    string
	fields  map[string]string
	replay  bool // makes the call, and then sends the bytes of its connection once more
}

// shows is a client's configuration that shows a certificate, whatever the server wants,
// and believes the server.
func shows(c tls.Certificate) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }}
}

// recorded keeps what was written to a connection.
type recorded struct {
	net.Conn
	sent bytes.Buffer
}

func (r *recorded) Write(b []byte) (int, error) {
	r.sent.Write(b)
	return r.Conn.Write(b)
}

// refused makes the call. That nothing is said in time is no refusal.
func (i intrusion) refused() (why string, refused bool) {
	conn, err := net.DialTimeout("tcp", i.address, intrusionTime)
	if err != nil {
		return err.Error(), false
	}
	defer conn.Close()
	record := &recorded{Conn: conn}
	status, message, err := i.call(record)
	if i.replay {
		if status != "0" {
			return fmt.Sprintf("the call to be recorded: status %q %s, %v", status, message, err), false
		}
		return again(i.address, record.sent.Bytes())
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("not refused within %v", intrusionTime), false
	case err != nil:
		return err.Error(), true
	}
	return fmt.Sprintf("status %s: %s", status, message), status != "0"
}

// again sends the bytes of a connection on a new one, which has to be closed.
func again(address string, sent []byte) (why string, refused bool) {
	conn, err := net.DialTimeout("tcp", address, intrusionTime)
	if err != nil {
		return err.Error(), false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(intrusionTime))
	if _, err := conn.Write(sent); err != nil {
		return err.Error(), true
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		return "the replayed connection stays open", false
	}
	return "closed", true
}

// call makes the call and returns its status.
func (i intrusion) call(conn net.Conn) (status, message string, err error) {
	conn.SetDeadline(time.Now().Add(intrusionTime))
	if i.tls != nil {
		conn = tls.Client(conn, i.tls)
	}
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return "", "", err
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", i.path}, {":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		err = errors.Join(err, encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
	}
	for _, name := range slices.Sorted(maps.Keys(i.fields)) {
		err = errors.Join(err, encoder.WriteField(hpack.HeaderField{Name: name, Value: i.fields[name]}))
	}
	if err := errors.Join(err, framer.WriteSettings(),
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}),
		framer.WriteData(1, true, emptyMessage())); err != nil {
		return "", "", err
	}
	return answered(framer)
}

// answered reads frames up to the end of the call.
func answered(framer *http2.Framer) (status, message string, err error) {
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return "", "", err
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			for _, h := range f.Fields {
				switch h.Name {
				case "grpc-status":
					status = h.Value
				case "grpc-message":
					message = h.Value
				}
			}
			if f.StreamEnded() {
				return status, message, nil
			}
		case *http2.RSTStreamFrame:
			return "", "", fmt.Errorf("stream reset: %v", f.ErrCode)
		case *http2.GoAwayFrame:
			return "", "", fmt.Errorf("connection refused: %v", f.ErrCode)
		}
	}
}

// emptyMessage is a message without payload, as gRPC frames it.
func emptyMessage() []byte {
	body := make([]byte, 5+parallel.HeaderBytes)
	binary.BigEndian.PutUint32(body[1:], parallel.HeaderBytes)
	parallel.Message{}.Encode(body[5:])
	return body
}
