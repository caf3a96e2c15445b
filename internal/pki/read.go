package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrFile marks a file that is not what it has to be.
var ErrFile = errors.New("not usable")

const (
	maxFile        = 256 << 10
	maxAuthorities = 8
	gossipKeyBytes = 32
	maxGossipKeys  = 8
)

// readSmall reads a file of at most maxFile bytes.
func readSmall(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%s: %w: it is not a regular file of at most %d KiB", name, ErrFile, maxFile>>10)
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// ReadGossipKeys reads the keys of the gossip: the first encrypts, all decrypt.
func ReadGossipKeys(name string) ([][]byte, error) {
	text, err := readSmall(name)
	if err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	return parseGossipKeys(name, text)
}

func parseGossipKeys(name string, text []byte) ([][]byte, error) {
	var keys [][]byte
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		key := make([]byte, hex.DecodedLen(len(line)))
		if _, err := hex.Decode(key, line); err != nil || len(key) != gossipKeyBytes {
			return nil, fmt.Errorf("gossip key: %s: %w: line %d is not 64 hexadecimal digits; make it with: train certs", name, ErrFile, len(keys)+1)
		}
		if keys = append(keys, key); len(keys) > maxGossipKeys {
			return nil, fmt.Errorf("gossip key: %s: %w: more than %d keys", name, ErrFile, maxGossipKeys)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("gossip key: %s: %w: it is empty; make it with: train certs", name, ErrFile)
	}
	return keys, nil
}

func readKey(name string) (crypto.Signer, error) {
	text, err := readSmall(name)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	return parseKey(name, text)
}

func parseKey(name string, text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemKey {
		return nil, fmt.Errorf("private key: %s: %w: it holds no %s", name, ErrFile, pemKey)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("private key: %s: %w: %v", name, ErrFile, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("private key: %s: %w: it cannot sign", name, ErrFile)
	}
	return signer, nil
}

// parseCertificates reads one or more certificates.
func parseCertificates(name string, text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != pemCertificate {
			return nil, fmt.Errorf("certificate: %s: %w: it holds a %s", name, ErrFile, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate: %s: %w: %v", name, ErrFile, err)
		}
		if certs = append(certs, c); len(certs) > maxAuthorities {
			return nil, fmt.Errorf("certificate: %s: %w: more than %d certificates", name, ErrFile, maxAuthorities)
		}
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("certificate: %s: %w: it holds none; make them with: train certs", name, ErrFile)
	}
	return certs, nil
}
