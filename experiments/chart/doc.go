// Package chart draws line and dot charts as SVG that needs nothing else: for pages
// that stand alone.
//
//	c := chart.Chart{Title: "Validation loss", X: chart.Axis{Label: "step"}, Y: chart.Axis{Label: "bits a byte", Log: true},
//		Series: []chart.Series{{Name: "1:7", Line: true, Band: true, Points: points}}}
//	page += c.SVG()
//
// The same chart gives the same text. Every mark has its value as a tooltip. Points
// that are not finite, or not above zero on a logarithmic axis, are left out; a chart
// without any point says so.
package chart
