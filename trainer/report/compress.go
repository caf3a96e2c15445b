package report

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os/exec"

	"github.com/ulikunitz/xz"
)

// Compressed is the size that a compressor brings a text to.
type Compressed struct {
	Label       string // which program, with which settings
	Bytes       int64
	BitsPerByte float64 // of the text
}

// Compress returns what gzip -9 and xz -9e make of a text: figures for a model's
// bits a byte to stand beside. Where a program is not installed, a library takes its place and the
// label says so. xz takes about a second a MB.
func Compress(ctx context.Context, text []byte) ([]Compressed, error) {
	if len(text) == 0 {
		return nil, fmt.Errorf("compress: there is no text")
	}
	var all []Compressed
	for _, c := range []struct {
		program, flags string
		library        string
		instead        func(io.Writer, []byte) error
	}{
		{"gzip", "-9", "Go's compress/gzip at level 9", gzipText},
		{"xz", "-9e", "xz of a Go library, weaker than xz -9e", xzText},
	} {
		label := c.program + " " + c.flags
		var size counter
		path, err := exec.LookPath(c.program)
		if err == nil {
			cmd := exec.CommandContext(ctx, path, c.flags, "-c")
			cmd.Env = []string{} // XZ_OPT and GZIP could change the settings
			cmd.Stdin, cmd.Stdout = bytes.NewReader(text), &size
			err = cmd.Run()
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("compress: %s: %w", label, ctx.Err())
			}
			label, size = c.library, 0
			if err := c.instead(&size, text); err != nil {
				return nil, fmt.Errorf("compress: %s: %w", label, err)
			}
		}
		all = append(all, Compressed{label, int64(size), 8 * float64(size) / float64(len(text))})
	}
	return all, nil
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func gzipText(out io.Writer, text []byte) error {
	w, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	return w.Close()
}

func xzText(out io.Writer, text []byte) error {
	w, err := xz.WriterConfig{DictCap: 64 << 20}.NewWriter(out)
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	return w.Close()
}
