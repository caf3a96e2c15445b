package report

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// Plot is what loss.png shows.
type Plot struct {
	Title     string
	Lines     []Line
	Baselines []Compressed // drawn where validation lines tell nats a token from bits a byte
}

var (
	lightBlue = color.NRGBA{R: 0xa9, G: 0xc8, B: 0xe6, A: 0xff}
	blue      = color.NRGBA{R: 0x1f, G: 0x5f, B: 0xa8, A: 0xff}
	orange    = color.NRGBA{R: 0xe0, G: 0x6c, B: 0x1f, A: 0xff}
	grey      = color.NRGBA{R: 0x77, G: 0x77, B: 0x77, A: 0xff}
	faint     = color.NRGBA{R: 0xe6, G: 0xe6, B: 0xe6, A: 0xff}
)

const (
	plotWidth  = 8 * vg.Inch
	plotHeight = 5 * vg.Inch
	plotDPI    = 150
)

// PlotLoss draws the loss against the step: training loss, light as measured and
// dark as smoothed, validation loss, and what compressors reach. It replaces the
// file as a whole.
func PlotLoss(path string, p Plot) error {
	canvas, err := render(p)
	if err != nil {
		return fmt.Errorf("plot: %w", advice(err))
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".loss-*.png")
	if err != nil {
		return fmt.Errorf("plot: %w", advice(err))
	}
	defer os.Remove(temporary.Name()) // gone already if all went well
	_, err = vgimg.PngCanvas{Canvas: canvas}.WriteTo(temporary)
	if closeErr := temporary.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Chmod(temporary.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("plot: %w", advice(err))
	}
	return nil
}

func render(p Plot) (*vgimg.Canvas, error) {
	figure := newFigure(p.Title)
	train, validation := points(p.Lines)
	curves := []struct {
		name   string
		points plotter.XYs
		colour color.Color
		width  vg.Length
	}{
		{"", extremes(train), lightBlue, vg.Points(0.6)},
		{"training", sample(smooth(train)), blue, vg.Points(1.8)},
		{"validation" + lastBits(p.Lines), sample(validation), orange, vg.Points(1.4)},
	}
	for _, c := range curves {
		if len(c.points) == 0 {
			continue
		}
		line, err := plotter.NewLine(c.points)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = c.colour, c.width
		figure.Add(line)
		if c.name != "" {
			figure.Legend.Add(c.name, line)
		}
	}
	if err := addMarks(figure, sample(validation)); err != nil {
		return nil, err
	}
	addBaselines(figure, p)
	scaleAxes(figure)
	canvas := vgimg.NewWith(vgimg.UseWH(plotWidth, plotHeight), vgimg.UseDPI(plotDPI), vgimg.UseBackgroundColor(color.White))
	figure.Draw(draw.Crop(draw.New(canvas), vg.Points(10), -vg.Points(16), vg.Points(8), -vg.Points(10)))
	return canvas, nil
}

func newFigure(title string) *plot.Plot {
	figure := plot.New()
	figure.Title.Text = title
	figure.X.Label.Text = "step"
	figure.Y.Label.Text = "cross-entropy (nats a token, log scale)"
	figure.Title.Padding = vg.Points(8)
	figure.Legend.Top = true
	figure.Legend.Padding = vg.Points(3)
	figure.Legend.ThumbnailWidth = vg.Points(22)
	for _, text := range []struct {
		font *font.Font
		size vg.Length
	}{
		{&figure.Title.TextStyle.Font, 14}, {&figure.X.Label.TextStyle.Font, 12}, {&figure.Y.Label.TextStyle.Font, 12},
		{&figure.X.Tick.Label.Font, 10}, {&figure.Y.Tick.Label.Font, 10}, {&figure.Legend.TextStyle.Font, 11},
	} {
		text.font.Variant, text.font.Size = "Sans", text.size
	}
	figure.X.Padding, figure.Y.Padding = 0, 0
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = faint, faint
	figure.Add(grid)
	return figure
}

// scaleAxes makes the loss axis logarithmic: the first steps would else leave no
// room for all the others.
func scaleAxes(figure *plot.Plot) {
	if figure.X.Min > figure.X.Max { // nothing was drawn
		figure.X.Min, figure.X.Max, figure.Y.Min, figure.Y.Max = 0, 1, 1, 6
	}
	figure.Y.Max *= 1.03
	figure.Y.Min = 0.97 * min(figure.Y.Min, figure.Y.Max/1.2)
	figure.Y.Scale = plot.LogScale{}
	figure.Y.Tick.Marker = plot.TickerFunc(lossTicks)
	figure.X.Tick.Marker = plot.TickerFunc(stepTicks)
}

// stepTicks puts marks at four to ten round numbers of steps.
func stepTicks(low, high float64) []plot.Tick {
	const most = 10
	unit := 1.0
	for i := 0; (high-low)/unit > most; i++ {
		unit *= []float64{2, 2.5, 2}[i%3] // 1, 2, 5, 10
	}
	var ticks []plot.Tick
	for x := math.Ceil(low/unit) * unit; x <= high; x += unit {
		ticks = append(ticks, plot.Tick{Value: x, Label: strconv.FormatFloat(x, 'f', -1, 64)})
	}
	return ticks
}

// lossTicks puts marks at round numbers, more of them where few fit.
func lossTicks(low, high float64) []plot.Tick {
	digits := []float64{1, 2, 5}
	switch decades := math.Log10(high / low); {
	case decades < 0.4:
		digits = []float64{1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2, 2.2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9}
	case decades < 1.3:
		digits = []float64{1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8}
	}
	var ticks []plot.Tick
	for power := math.Floor(math.Log10(low)); power <= math.Log10(high); power++ {
		for _, d := range digits {
			if x := d * math.Pow(10, power); x >= low && x <= high {
				ticks = append(ticks, plot.Tick{Value: x, Label: strconv.FormatFloat(x, 'g', 3, 64)})
			}
		}
	}
	return ticks
}

// addMarks draws a dot for each validation, unless there are too many to tell apart.
func addMarks(figure *plot.Plot, validation plotter.XYs) error {
	if len(validation) == 0 || len(validation) > 60 {
		return nil
	}
	dots, err := plotter.NewScatter(validation)
	if err != nil {
		return err
	}
	dots.GlyphStyle = draw.GlyphStyle{Color: orange, Radius: vg.Points(2.4), Shape: draw.CircleGlyph{}}
	figure.Add(dots)
	return nil
}

// lastBits is what a legend says of the last validation.
func lastBits(lines []Line) string {
	for _, l := range slices.Backward(lines) {
		if l.Validation != nil && l.BitsPerByte > 0 && finite(l.BitsPerByte) {
			return fmt.Sprintf(": %.2f bits a byte", l.BitsPerByte)
		}
	}
	return ""
}

// addBaselines draws a horizontal line for each compressor.
func addBaselines(figure *plot.Plot, p Plot) {
	ratio := 0.0 // nats a token over bits a byte, the same for all validations
	for _, l := range p.Lines {
		if l.Validation != nil && l.BitsPerByte > 0 && finite(l.ValLoss) {
			ratio = float64(l.ValLoss / l.BitsPerByte)
		}
	}
	if ratio == 0 {
		return
	}
	dashes := [][]vg.Length{{vg.Points(7), vg.Points(3)}, {vg.Points(2), vg.Points(3)}}
	for i, b := range p.Baselines {
		y := b.BitsPerByte * ratio
		line := plotter.NewFunction(func(float64) float64 { return y })
		line.Color, line.Width, line.Dashes, line.Samples = grey, vg.Points(1.1), dashes[i%len(dashes)], 2
		figure.Add(line)
		figure.Legend.Add(fmt.Sprintf("%s: %.2f bits a byte", b.Label, b.BitsPerByte), line)
		figure.Y.Min, figure.Y.Max = min(figure.Y.Min, y), max(figure.Y.Max, y)
	}
}
