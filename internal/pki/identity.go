package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Role is what the holder of a certificate may be.
type Role string

// The roles.
const (
	Worker      Role = "worker"      // trains as a rank
	Coordinator Role = "coordinator" // makes generations
	Watcher     Role = "watcher"     // sees the status, and changes nothing
)

var allRoles = []Role{Worker, Coordinator, Watcher}

// ErrRefused is returned for a peer that is not who it has to be.
var ErrRefused = errors.New("refused")

const scheme = "jambalaya"

var safeName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// Identity is who a certificate says its holder is.
type Identity struct {
	Roles []Role
	Name  string // of the worker; "": any
}

// Is says whether the holder may be a role.
func (id Identity) Is(r Role) bool { return slices.Contains(id.Roles, r) }

// Named says whether the holder may be the worker of this name.
func (id Identity) Named(name string) bool { return id.Name == "" || id.Name == name }

func (id Identity) String() string {
	var roles []string
	for _, r := range id.Roles {
		roles = append(roles, string(r))
	}
	if id.Name == "" {
		return strings.Join(roles, "+") + " of any name"
	}
	return strings.Join(roles, "+") + " " + id.Name
}

// uris is the identity as it stands in a certificate.
func (id Identity) uris() []*url.URL {
	var list []*url.URL
	for _, r := range id.Roles {
		u := &url.URL{Scheme: scheme, Host: string(r)}
		if id.Name != "" {
			u.Path = "/" + id.Name
		}
		list = append(list, u)
	}
	return list
}

// IdentityOf reads a certificate, whoever has signed it.
func IdentityOf(c *x509.Certificate) (Identity, error) {
	var id Identity
	for i, u := range c.URIs {
		name := strings.TrimPrefix(u.Path, "/")
		r := Role(u.Host)
		switch {
		case u.Scheme != scheme || !slices.Contains(allRoles, r) || name != "" && !safeName.MatchString(name):
			return Identity{}, fmt.Errorf("%w: certificate %q says %q, which is no role of this program", ErrRefused, c.Subject.CommonName, u)
		case i > 0 && name != id.Name:
			return Identity{}, fmt.Errorf("%w: certificate %q has two names", ErrRefused, c.Subject.CommonName)
		}
		id.Roles, id.Name = append(id.Roles, r), name
	}
	if len(id.Roles) == 0 {
		return Identity{}, fmt.Errorf("%w: certificate %q has no role; make one with: train certs", ErrRefused, c.Subject.CommonName)
	}
	return id, nil
}

// PeerOf is who is on the other side of a connection that a configuration of
// Credentials made, and so has checked.
func PeerOf(state tls.ConnectionState) (Identity, error) {
	if len(state.PeerCertificates) == 0 {
		return Identity{}, fmt.Errorf("%w: the peer has no certificate", ErrRefused)
	}
	return IdentityOf(state.PeerCertificates[0])
}
