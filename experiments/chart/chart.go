package chart

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Chart is a chart of 640 x 380 units.
type Chart struct {
	Title  string
	X, Y   Axis
	Series []Series
	Guides []Guide
}

// Axis is one of the axes.
type Axis struct {
	Label      string
	Log        bool
	Binary     bool                 // with Log: ticks at powers of two
	Categories []string             // names of the values 0, 1, 2, ...; nil for numbers
	Ticks      []float64            // nil for a choice of round numbers
	Format     func(float64) string // of ticks and tooltips; nil for short numbers
	Zero       bool                 // the axis starts at zero
}

// Series is what has one colour.
type Series struct {
	Name   string // in the legend; empty for none
	Colour int    // index into the palette
	Points []Point
	Line   bool // through the points
	Dashed bool
	Marks  bool // at the points
	Bars   bool // from Low to High
	Band   bool // between Low and High
}

// Point is a value, with its uncertainty and, beside it, a label.
type Point struct {
	X, Y, Low, High float64
	Label           string
	Note            string // added to the tooltip
}

// Guide is a horizontal line with a label.
type Guide struct {
	Y     float64
	Label string
}

// palette keeps apart for colour-blind readers (Okabe and Ito 2008, darkened where
// they are too light for lines on white).
var palette = []string{"#0072b2", "#d55e00", "#009e73", "#b4508e", "#c98a00", "#3aa0d8", "#5b5b5b", "#7a4b9d", "#8c6d31", "#202020"}

func colour(i int) string { return palette[i%len(palette)] }

const (
	width, height = 640.0, 380.0
	left, right   = 82.0, 22.0
	bottom        = 58.0
	titleHeight   = 34.0
	legendRow     = 19.0
	charWidth     = 6.6 // of 12 px text, on average
	boldWidth     = 7.8
)

// canvas is an SVG in the making.
type canvas struct {
	chart  Chart
	out    strings.Builder
	top    float64
	x, y   scale
	legend [][]int // rows of series
}

// SVG draws the chart.
func (c Chart) SVG() string {
	d := &canvas{chart: c}
	d.layoutLegend()
	d.top = titleHeight + legendRow*float64(len(d.legend)) + 8
	xs, ys := c.extent()
	d.x, d.y = newScale(c.X, xs, left, width-right, true), newScale(c.Y, ys, height-bottom, d.top, false)
	fmt.Fprintf(&d.out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" role="img" aria-label="%s" font-family="system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif" font-size="12">`,
		width, height, html.EscapeString(c.Title))
	d.printf(`<rect width="%g" height="%g" fill="#ffffff"/>`, width, height)
	d.text(left-62, 22, "start", "#1c2430", `font-size="14.5" font-weight="600"`, c.Title)
	d.drawLegend()
	d.drawAxes()
	if !d.x.empty {
		d.drawGuides()
		for _, s := range c.Series {
			d.drawArea(s)
		}
		for _, s := range c.Series {
			d.drawSeries(s)
		}
		d.labelGuides()
		d.drawLabels()
	} else {
		d.text((left+width-right)/2, (d.top+height-bottom)/2, "middle", "#8a94a3", "", "nothing was measured")
	}
	d.out.WriteString("</svg>")
	return d.out.String()
}

func (d *canvas) printf(format string, args ...any) { fmt.Fprintf(&d.out, format, args...) }

func (d *canvas) text(x, y float64, anchor, fill, attributes, text string) {
	d.printf(`<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s" %s>%s</text>`, x, y, anchor, fill, attributes, html.EscapeString(text))
}

// extent lists the coordinates of all that has a place in the chart.
func (c Chart) extent() (xs, ys []float64) {
	for _, s := range c.Series {
		for _, p := range c.visible(s) {
			xs, ys = append(xs, p.X), append(ys, p.Y)
			if s.Bars || s.Band {
				ys = append(ys, p.Low, p.High)
			}
		}
	}
	if len(ys) > 0 {
		for _, g := range c.Guides {
			ys = append(ys, g.Y)
		}
	}
	return xs, ys
}

// visible are the points that have a place.
func (c Chart) visible(s Series) []Point {
	return slices.DeleteFunc(slices.Clone(s.Points), func(p Point) bool { return !c.X.holds(p.X) || !c.Y.holds(p.Y) })
}

// layoutLegend breaks the names of the series into rows.
func (d *canvas) layoutLegend() {
	room := 0.0
	for i, s := range d.chart.Series {
		if s.Name == "" {
			continue
		}
		need := legendWidth(s.Name)
		if room < need {
			d.legend = append(d.legend, nil)
			room = width - left - right + 62
		}
		row := len(d.legend) - 1
		d.legend[row] = append(d.legend[row], i)
		room -= need
	}
}

func legendWidth(name string) float64 { return 40 + charWidth*float64(len([]rune(name))) }

func (d *canvas) drawLegend() {
	for r, row := range d.legend {
		x, y := left-62, titleHeight+legendRow*(float64(r)+0.5)
		for _, i := range row {
			s := d.chart.Series[i]
			if s.Line {
				d.printf(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="2.4"%s/>`, x, y, x+18, y, colour(s.Colour), dash(s))
			}
			if s.Marks {
				d.printf(`<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`, x+9, y, colour(s.Colour))
			}
			d.text(x+24, y+4, "start", "#3c4654", "", s.Name)
			x += legendWidth(s.Name)
		}
	}
}

func dash(s Series) string {
	if s.Dashed {
		return ` stroke-dasharray="5 4"`
	}
	return ""
}

func (d *canvas) drawAxes() {
	for _, t := range d.y.ticks {
		at := d.y.at(t)
		d.printf(`<line x1="%g" y1="%.1f" x2="%g" y2="%.1f" stroke="#e9edf2"/>`, left, at, width-right, at)
		d.text(left-8, at+4, "end", "#5a6675", "", d.y.format(t))
	}
	for _, t := range d.x.ticks {
		at := d.x.at(t)
		d.printf(`<line x1="%.1f" y1="%g" x2="%.1f" y2="%g" stroke="#9aa5b3"/>`, at, height-bottom, at, height-bottom+4)
		for i, line := range strings.Split(d.x.format(t), "\n") {
			d.text(at, height-bottom+18+13*float64(i), "middle", "#5a6675", "", line)
		}
	}
	d.printf(`<line x1="%g" y1="%g" x2="%g" y2="%g" stroke="#9aa5b3"/>`, left, height-bottom, width-right, height-bottom)
	d.text((left+width-right)/2, height-10, "middle", "#3c4654", "", d.chart.X.Label)
	middle := (d.top + height - bottom) / 2
	d.text(14, middle, "middle", "#3c4654", fmt.Sprintf(`transform="rotate(-90 14 %.1f)"`, middle), d.chart.Y.Label)
}

func (d *canvas) drawGuides() {
	for _, g := range d.chart.Guides {
		if !d.chart.Y.holds(g.Y) {
			continue
		}
		at := d.y.at(g.Y)
		d.printf(`<line x1="%g" y1="%.1f" x2="%g" y2="%.1f" stroke="#8a94a3" stroke-dasharray="2 4"/>`, left, at, width-right, at)
	}
}

func (d *canvas) labelGuides() {
	for _, g := range d.chart.Guides {
		if d.chart.Y.holds(g.Y) {
			d.text(width-right-2, d.y.at(g.Y)-5, "end", "#7c8795", `font-size="11" `+halo, g.Label)
		}
	}
}

// drawArea draws the band of a series, below all lines.
func (d *canvas) drawArea(s Series) {
	if !s.Band {
		return
	}
	var upper, lower []string
	for _, p := range d.chart.visible(s) {
		if !d.chart.Y.holds(p.Low) || !d.chart.Y.holds(p.High) {
			continue
		}
		x := d.x.at(p.X)
		upper = append(upper, fmt.Sprintf("%.1f,%.1f", x, d.y.at(p.High)))
		lower = append([]string{fmt.Sprintf("%.1f,%.1f", x, d.y.at(p.Low))}, lower...)
	}
	if len(upper) > 1 {
		d.printf(`<polygon points="%s" fill="%s" fill-opacity="0.16"/>`, strings.Join(append(upper, lower...), " "), colour(s.Colour))
	}
}

func (d *canvas) drawSeries(s Series) {
	points := d.chart.visible(s)
	if s.Line {
		var path []string
		for _, p := range points {
			path = append(path, fmt.Sprintf("%.1f,%.1f", d.x.at(p.X), d.y.at(p.Y)))
		}
		d.printf(`<polyline points="%s" fill="none" stroke="%s" stroke-width="2" stroke-linejoin="round"%s/>`, strings.Join(path, " "), colour(s.Colour), dash(s))
	}
	for _, p := range points {
		x, y := d.x.at(p.X), d.y.at(p.Y)
		if s.Bars && d.chart.Y.holds(p.Low) && d.chart.Y.holds(p.High) {
			top, low := d.y.at(p.High), d.y.at(p.Low)
			d.printf(`<path d="M%.1f %.1fV%.1fM%.1f %.1fh9M%.1f %.1fh9" stroke="%s" stroke-width="1.6" fill="none"/>`, x, top, low, x-4.5, top, x-4.5, low, colour(s.Colour))
		}
		if s.Marks {
			d.printf(`<circle cx="%.1f" cy="%.1f" r="4.2" fill="%s" stroke="#ffffff"><title>%s</title></circle>`, x, y, colour(s.Colour), html.EscapeString(d.tooltip(s, p)))
		}
	}
}

func (d *canvas) tooltip(s Series, p Point) string {
	parts := []string{}
	for _, t := range []string{s.Name, p.Label, strings.ReplaceAll(d.x.format(p.X), "\n", " ") + ": " + d.y.format(p.Y), p.Note} {
		if t != "" {
			parts = append(parts, t)
		}
	}
	return strings.Join(parts, ", ")
}

// drawLabels writes the labels of points where they have room: to the right, or
// near the edge to the left.
func (d *canvas) drawLabels() {
	for _, s := range d.chart.Series {
		for _, p := range d.chart.visible(s) {
			if p.Label == "" {
				continue
			}
			x, anchor := d.x.at(p.X)+9, "start"
			if x+boldWidth*float64(len([]rune(p.Label))) > width-4 {
				x, anchor = x-18, "end"
			}
			d.text(x, d.y.at(p.Y)-7, anchor, colour(s.Colour), `font-weight="600"`, p.Label)
		}
	}
}

// halo keeps a text readable where lines pass behind it.
const halo = `stroke="#ffffff" stroke-width="3" stroke-linejoin="round" paint-order="stroke"`

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
