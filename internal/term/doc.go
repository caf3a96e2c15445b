// Package term shows progress: a bar that redraws itself where the output is a
// terminal, and a line now and then where it is not.
//
//	p := term.NewProgress(os.Stdout, term.Options{Label: "train", Total: steps})
//	defer p.Close()
//	slog.SetDefault(slog.New(slog.NewTextHandler(p, nil))) // log lines go above the bar
//	p.Set(step, "loss 2.314", "21.4k tokens/s")
//
// Fields that a narrow terminal has no room for are left out, the last ones first; a bar shrinks
// before they go. Colours are off where NO_COLOR is set or TERM is dumb, and a
// dumb terminal gets plain lines.
//
// # Invariants
//
// Nothing but text, carriage returns, erasures and colours is written, so that a
// program that is killed leaves the terminal as it should be. Whatever is written
// through a Progress while it is open appears in full, above the bar. All methods
// may be called from several goroutines, and after Close.
//
// # Failures
//
// Errors of the output are ignored: progress is not worth a run.
package term
