package term

import "os"

// Stages shows work of several stages on a file: one bar after the other. Close ends the
// last one. It is for one goroutine.
type Stages struct {
	Out    *os.File
	Format func(int64) string // of done and total, as in Options

	label string
	bar   *Progress
}

// Set says that done of the total of a stage is done. Another label than the last one
// begins the next stage.
func (s *Stages) Set(label string, done, total int64, fields ...string) {
	if s.bar == nil || label != s.label {
		s.Close()
		s.label, s.bar = label, NewProgress(s.Out, Options{Label: label, Total: total, Format: s.Format})
	}
	s.bar.Set(done, fields...)
}

// Close ends the bar that is shown, if there is one.
func (s *Stages) Close() {
	if s.bar != nil {
		s.bar.Close()
		s.bar = nil
	}
}
