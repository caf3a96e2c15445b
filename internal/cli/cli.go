// Package cli is what the commands share: exit codes, and how an error reaches
// the user.
//
// An error is printed as one line on standard error. Its kind decides the exit
// code: errors marked by Config end with 78, those marked by Interrupted with 75
// (what is done is saved; the same command again goes on), all others with 1.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	CodeOK          = 0
	CodeFailure     = 1
	CodeInterrupted = 75 // EX_TEMPFAIL: run again
	CodeConfig      = 78 // EX_CONFIG
)

// coded is an error with the exit code it leads to.
type coded struct {
	error
	code int
}

func (c coded) Unwrap() error { return c.error }

// Config marks an error as one of the user's configuration or command line.
func Config(err error) error { return mark(err, CodeConfig) }

// Interrupted marks the end of a run that was asked to stop and saved its state.
func Interrupted(err error) error { return mark(err, CodeInterrupted) }

func mark(err error, code int) error {
	if err == nil {
		return nil
	}
	return coded{err, code}
}

// Code is the exit code of an error.
func Code(err error) int {
	var c coded
	switch {
	case err == nil:
		return CodeOK
	case errors.As(err, &c):
		return c.code
	}
	return CodeFailure
}

// NoArgs refuses arguments that are no flags.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Config(fmt.Errorf("unexpected argument %q; try %s --help", args[0], cmd.CommandPath()))
	}
	return nil
}

// Main runs a command to its end and exits. The command's context is cancelled
// by the first SIGINT or SIGTERM; a second one kills the process.
func Main(cmd *cobra.Command) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGUSR1)
	go func() {
		<-ctx.Done()
		stop()
	}()
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return Config(fmt.Errorf("%w; try %s --help", err, c.CommandPath()))
	})
	err := cmd.ExecuteContext(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = Interrupted(errors.New("interrupted; run it again"))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", cmd.Name(), err)
	}
	os.Exit(Code(err))
}
