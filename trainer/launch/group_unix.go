//go:build unix

package launch

import (
	"os/exec"
	"syscall"
)

// stopSignal asks a worker to save and stop.
const stopSignal = syscall.SIGTERM

// ownGroup keeps the terminal's signals from a worker: the launcher passes them on.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
