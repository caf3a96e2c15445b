package main

import (
	"os"
	"path/filepath"
	"testing"

	"jambalaya/internal/cli"
	"jambalaya/internal/pki"
)

func TestCerts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	checkProcess(t, train(t, dir, "certs", "--workers", "2", "--watcher"), 0, nil,
		[]string{"certs/worker-1.pem: worker+coordinator 1", "certs/watcher.pem: watcher of any name", "certs/ca.key stays here"})
	if _, err := pki.Open(filepath.Join(dir, "certs"), "worker-1"); err != nil {
		t.Error(err)
	}
	checkProcess(t, train(t, dir, "certs", "--worker", "node-a", "--worker", "", "--days", "1"), 0, nil, []string{"worker-node-a.pem", "certs/worker.pem: worker+coordinator of any name"})
	checkProcess(t, train(t, dir, "certs"), cli.CodeConfig, []string{"--workers: 0 is not between 1 and 4096"}, nil)
	checkProcess(t, train(t, dir, "certs", "--worker", "../x"), cli.CodeConfig, []string{`certificates: name of a worker: "../x" is not made of a-z, 0-9`}, nil)
	checkProcess(t, train(t, dir, "certs", "--workers", "1", "--days", "-1"), cli.CodeConfig, []string{"certificates: -1 days"}, nil)
	if err := os.WriteFile(filepath.Join(dir, "certs/ca.key"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	checkProcess(t, train(t, dir, "certs", "--workers", "1"), cli.CodeFailure, []string{"ca.key: not usable: it holds no PRIVATE KEY; certificates are made where the authority's key is, or anew in an empty directory"}, nil)
}
