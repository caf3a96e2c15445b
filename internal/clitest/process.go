package clitest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// asCommand in the environment makes the test binary the command.
const asCommand = "JAMBALAYA_TEST_COMMAND"

// Main runs the tests of a package, or in a process that Command has started the
// command's main function, which exits. The functions in after clear up when all tests
// have ended.
func Main(m *testing.M, main func(), after ...func()) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	code := m.Run()
	for _, f := range after {
		f()
	}
	os.Exit(code)
}

// Command is the command, to be started in a directory.
func Command(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asCommand+"=1")
	return cmd
}

// Ended is a process of the command that has ended.
type Ended struct {
	Code           int // -1 if a signal has ended it
	Stdout, Stderr string
}

func (e Ended) String() string {
	return fmt.Sprintf("exit code %d\n%s%s", e.Code, e.Stdout, e.Stderr)
}

// Run runs the command to its end. The test fails only if there is no such process.
func Run(t testing.TB, dir string, args ...string) Ended {
	t.Helper()
	cmd := Command(dir, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return Ended{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}
