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
func NoArgs(cmd *cobra.Command, args []string) error { return refuse("unexpected argument", cmd, args) }

// Group is a command that does nothing but have others below it.
func Group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, args []string) error { return refuse("unknown command", cmd, args) },
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

func refuse(what string, cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return Config(fmt.Errorf("%s %q; try %s --help", what, args[0], cmd.CommandPath()))
}

// Main runs a command to its end and exits. The command's context is cancelled
// by the first SIGINT or SIGTERM; a second one kills the process.
func Main(cmd *cobra.Command) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGUSR1)
	go func() {
		<-ctx.Done()
		stop()
	}()
	os.Exit(Execute(ctx, cmd))
}

// usageEnd is what the help of every command ends with.
const usageEnd = `
Exit codes: 0 done, 1 failure, 75 interrupted and saved (run it again), 78 the configuration or the command line.
`

// Execute runs a command to its end, prints its error, and returns the exit code.
func Execute(ctx context.Context, cmd *cobra.Command) int {
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.SetUsageTemplate(cmd.UsageTemplate() + usageEnd)
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return Config(fmt.Errorf("%w; try %s --help", err, c.CommandPath()))
	})
	err := cmd.ExecuteContext(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = Interrupted(errors.New("interrupted; run it again"))
	}
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %v\n", cmd.Name(), err)
	}
	return Code(err)
}
