package pki

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Files in a directory of certificates.
const (
	authorityFile = "ca.pem"
	authorityKey  = "ca.key"
	gossipFile    = "gossip.key"
	certSuffix    = ".pem"
	keySuffix     = ".key"
)

// ErrPlan marks a plan of certificates that cannot be made.
var ErrPlan = errors.New("certificates")

// Plan says what Make makes.
type Plan struct {
	// Workers are the names of workers; each may also coordinate, as the lease falls to
	// any of them. An empty name makes one certificate for all workers.
	Workers []string
	Watcher bool             // one more that may see the status
	Days    int              // for which certificates hold; 0 is 365
	Now     func() time.Time // nil: the clock
	// NewAuthority replaces the authority. The old one stays trusted.
	NewAuthority bool
	// NewGossipKey puts a new key first. The old ones still decrypt.
	NewGossipKey bool
	// Retire forgets old authorities and old gossip keys.
	Retire bool
}

// Entry is a file name without suffix, and who it is for.
type Entry struct {
	File     string
	Identity Identity
}

// entries lists the certificates of a plan.
func (p Plan) entries() ([]Entry, error) {
	var list []Entry
	for _, name := range p.Workers {
		id := Identity{Roles: []Role{Worker, Coordinator}, Name: name}
		file := "worker-" + name
		if name == "" {
			file = "worker"
		} else if !safeName.MatchString(name) {
			return nil, fmt.Errorf("%w: name of a worker: %q is not made of a-z, 0-9, '.', '_' and '-'", ErrPlan, name)
		}
		list = append(list, Entry{file, id})
	}
	if p.Watcher {
		list = append(list, Entry{"watcher", Identity{Roles: []Role{Watcher}}})
	}
	if p.Days < 0 || p.Days > 36500 {
		return nil, fmt.Errorf("%w: %d days; between 1 and 36500 are possible", ErrPlan, p.Days)
	}
	return list, nil
}

// Make makes the files of a plan in a directory. What is there of an authority and a
// gossip key is used again, unless the plan says otherwise; certificates are made anew.
func Make(dir string, p Plan) ([]Entry, error) {
	entries, err := p.entries()
	if err != nil {
		return nil, err
	}
	if p.Days == 0 {
		p.Days = 365
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	a, err := p.authority(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if err := a.issue(dir, e, p); err != nil {
			return nil, err
		}
	}
	return entries, p.gossipKey(dir)
}

// authority is who signs.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// authority reads the one in a directory, or makes it.
func (p Plan) authority(dir string) (*authority, error) {
	old, err := os.ReadFile(filepath.Join(dir, authorityFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	if err != nil || p.NewAuthority {
		return p.newAuthority(dir, old)
	}
	key, err := readKey(filepath.Join(dir, authorityKey))
	if err != nil {
		return nil, fmt.Errorf("%w; certificates are made where the authority's key is, or anew in an empty directory", err)
	}
	certs, err := parseCertificates(filepath.Join(dir, authorityFile), old)
	if err != nil {
		return nil, err
	}
	for _, c := range certs {
		if public, ok := key.Public().(ed25519.PublicKey); ok && public.Equal(c.PublicKey) {
			if p.Retire {
				err = replace(dir, authorityFile, encode(pemCertificate, c.Raw), 0o644)
			}
			return &authority{c, key}, err
		}
	}
	return nil, fmt.Errorf("%s: is not the key of any authority in %s; restore both, or use an empty directory", filepath.Join(dir, authorityKey), authorityFile)
}

func (p Plan) newAuthority(dir string, old []byte) (*authority, error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := p.template("jambalaya authority")
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign
	raw, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, err
	}
	if p.Retire {
		old = nil
	}
	if err := writeKey(dir, authorityKey, key); err != nil {
		return nil, err
	}
	return &authority{cert, key}, replace(dir, authorityFile, append(encode(pemCertificate, raw), old...), 0o644)
}

func (p Plan) template(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := p.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		// Clocks of machines differ a little.
		NotBefore: now.Add(-5 * time.Minute), NotAfter: now.Add(time.Duration(p.Days) * 24 * time.Hour),
	}, nil
}

// issue makes a certificate. Its key goes first: a process that reads in between finds
// that they do not fit, and looks again.
func (a *authority) issue(dir string, e Entry, p Plan) error {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	template, err := p.template(e.File)
	if err != nil {
		return err
	}
	template.URIs = e.Identity.uris()
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		return err
	}
	if err := writeKey(dir, e.File+keySuffix, key); err != nil {
		return err
	}
	return replace(dir, e.File+certSuffix, encode(pemCertificate, raw), 0o644)
}

// gossipKey makes the key if there is none, or puts a new one first.
func (p Plan) gossipKey(dir string) error {
	var text []byte
	keys, err := ReadGossipKeys(filepath.Join(dir, gossipFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || p.NewGossipKey {
		fresh := make([]byte, gossipKeyBytes)
		rand.Read(fresh)
		keys = append([][]byte{fresh}, keys...)
	}
	if p.Retire {
		keys = keys[:1]
	}
	for _, k := range keys {
		text = append(hex.AppendEncode(text, k), '\n')
	}
	return replace(dir, gossipFile, text, 0o600)
}

const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
)

func encode(kind string, raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw})
}

func writeKey(dir, name string, key crypto.Signer) error {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return replace(dir, name, encode(pemKey, raw), 0o600)
}

// replace writes a file as a whole.
func replace(dir, name string, text []byte, mode fs.FileMode) error {
	if old, err := os.ReadFile(filepath.Join(dir, name)); err == nil && bytes.Equal(old, text) {
		return nil
	}
	f, err := os.CreateTemp(dir, ".tmp-"+name+"-")
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("certificates: %w", err)
	}
	return nil
}
