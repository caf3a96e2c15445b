package chart_test

import (
	"encoding/xml"
	"io"
	"math"
	"strings"
	"testing"

	"jambalaya/experiments/chart"
)

func parse(t *testing.T, svg string) {
	t.Helper()
	var err error
	for d := xml.NewDecoder(strings.NewReader(svg)); err == nil; {
		_, err = d.Token()
	}
	if err != io.EOF || strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		t.Errorf("%v in %s", err, svg)
	}
}

func TestSVG(t *testing.T) {
	t.Parallel()
	nan := math.NaN()
	for name, c := range map[string]chart.Chart{
		"empty":  {Title: "<&>"},
		"no use": {Y: chart.Axis{Log: true}, Series: []chart.Series{{Line: true, Marks: true, Points: []chart.Point{{X: nan, Y: 1}, {X: 1, Y: -1}}}}},
		"one":    {Series: []chart.Series{{Name: "a", Line: true, Marks: true, Bars: true, Band: true, Points: []chart.Point{{X: 1, Y: 1, Low: nan, High: 2}}}}},
		"log": {X: chart.Axis{Log: true}, Y: chart.Axis{Log: true, Zero: true}, Guides: []chart.Guide{{Y: 3, Label: "g"}},
			Series: []chart.Series{{Name: "a & b", Line: true, Band: true, Points: []chart.Point{{X: 1, Y: 1, Low: 0, High: 2}, {X: 1e6, Y: 1e9, Low: 1, High: 1e9, Label: "x<y"}}}}},
		"categories": {X: chart.Axis{Categories: []string{"a\nb", "c"}}, Series: []chart.Series{{Marks: true, Bars: true, Points: []chart.Point{{X: 0, Y: 2, Low: 1, High: 3}, {X: 1, Y: 2, Low: 2, High: 2}}}}},
	} {
		svg := c.SVG()
		parse(t, svg)
		if empty := strings.Contains(svg, "nothing was measured"); empty != (name == "empty" || name == "no use") {
			t.Errorf("%s: %s", name, svg)
		}
		if svg != c.SVG() {
			t.Errorf("%s differs between two drawings", name)
		}
	}
}
