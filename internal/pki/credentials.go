package pki

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// again is how long files are believed before they are looked at once more.
	again = time.Second
	// doubted is how long, if they do not explain a peer's certificate: the peer may have
	// new ones already.
	doubted = 50 * time.Millisecond
)

// Credentials are those of a process. They follow their files.
type Credentials struct {
	dir, file string
	now       func() time.Time

	mu     sync.Mutex
	looked time.Time
	cert   *tls.Certificate
	roots  *x509.CertPool
	id     Identity
	fault  error // of the last look, if that changed nothing
}

// Open reads the certificate and key of a file name ("worker-0") and the authority in a
// directory. All must fit.
func Open(dir, file string) (*Credentials, error) {
	c := &Credentials{dir: dir, file: file, now: time.Now}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// GossipKeys reads those of the directory.
func (c *Credentials) GossipKeys() ([][]byte, error) {
	return ReadGossipKeys(filepath.Join(c.dir, gossipFile))
}

// Identity is who this process is.
func (c *Credentials) Identity() Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}

// File is the name of the certificate.
func (c *Credentials) File() string { return filepath.Join(c.dir, c.file+certSuffix) }

// load reads the files and checks that a peer would believe them.
func (c *Credentials) load() error {
	name := filepath.Join(c.dir, c.file+certSuffix)
	text, err := readSmall(name)
	if err != nil {
		return fmt.Errorf("certificate: %w; make it with: train certs", err)
	}
	certs, err := parseCertificates(name, text)
	if err != nil {
		return err
	}
	key, err := readKey(filepath.Join(c.dir, c.file+keySuffix))
	if err != nil {
		return err
	}
	id, err := IdentityOf(certs[0])
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if public, ok := key.Public().(ed25519.PublicKey); !ok || !public.Equal(certs[0].PublicKey) {
		return fmt.Errorf("%s: %w: it is not the certificate of the key in %s%s", name, ErrFile, c.file, keySuffix)
	}
	authorities := filepath.Join(c.dir, authorityFile)
	if text, err = readSmall(authorities); err != nil {
		return fmt.Errorf("authority: %w", err)
	}
	list, err := parseCertificates(authorities, text)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	for _, a := range list {
		roots.AddCert(a)
	}
	if err := verify(certs[0], roots, c.now()); err != nil {
		return fmt.Errorf("%s: %w; make it anew with: train certs", name, err)
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: certs[0]}
	for _, x := range certs {
		cert.Certificate = append(cert.Certificate, x.Raw)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cert, c.roots, c.id, c.looked = cert, roots, id, c.now()
	return nil
}

// current returns what the files hold, or held when they could last be read.
func (c *Credentials) current() (*tls.Certificate, *x509.CertPool) { return c.notOlder(again) }

// notOlder looks at the files again if that was longer ago than an age.
func (c *Credentials) notOlder(age time.Duration) (*tls.Certificate, *x509.CertPool) {
	c.mu.Lock()
	stale := c.now().Sub(c.looked) >= age
	if stale {
		c.looked = c.now()
	}
	c.mu.Unlock()
	if stale {
		err := c.load()
		c.mu.Lock()
		c.fault = err
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cert, c.roots
}

// Fault says why the files could not be read when they were last looked at; what they
// held before is in use then.
func (c *Credentials) Fault() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fault
}

// verify checks the chain, the dates and the use of a certificate.
func verify(cert *x509.Certificate, roots *x509.CertPool, now time.Time) error {
	_, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return fmt.Errorf("%w: certificate %q: %v", ErrRefused, cert.Subject.CommonName, err)
	}
	return nil
}

// TLS is a configuration for both sides of a connection. The peer must have one of the
// roles; what else it must be, as the worker of some name, is up to who knows.
func (c *Credentials) TLS(roles ...Role) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, _ := c.current()
			return cert, nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, _ := c.current()
			return cert, nil
		},
		// The peer is verified below, on both sides and when a session is resumed too:
		// by the authorities of this moment, and by role instead of host name.
		InsecureSkipVerify: true,
		ClientAuth:         tls.RequireAnyClientCert,
		VerifyConnection:   func(s tls.ConnectionState) error { return c.check(s, roles) },
	}
}

// check verifies the peer of a connection.
func (c *Credentials) check(s tls.ConnectionState, roles []Role) error {
	id, err := PeerOf(s)
	if err != nil {
		return err
	}
	_, roots := c.current()
	if verify(s.PeerCertificates[0], roots, c.now()) != nil {
		_, roots = c.notOlder(doubted)
	}
	if err := verify(s.PeerCertificates[0], roots, c.now()); err != nil {
		return err
	}
	if !slices.ContainsFunc(roles, id.Is) {
		return fmt.Errorf("%w: the peer's certificate is of a %s, not of a %v", ErrRefused, id, roles)
	}
	return nil
}
