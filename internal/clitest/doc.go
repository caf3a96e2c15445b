// Package clitest lets the test binary of a command be the command itself, so that
// exit codes, signals and output are those of a real process:
//
//	func TestMain(m *testing.M) { clitest.Main(m, main) }
//
//	func TestVersion(t *testing.T) {
//		p := clitest.Run(t, t.TempDir(), "--version")
//		if p.Code != cli.CodeOK { t.Error(p) }
//	}
package clitest
