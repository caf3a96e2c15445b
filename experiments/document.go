package experiments

import (
	"bytes"
	"fmt"
	"html/template"
	"strings"

	_ "embed"
)

// document is the report, in blocks that can be written as Markdown and as HTML.
type document struct {
	Title  string
	Lead   string
	Blocks []block
}

// block is one of: a heading, a paragraph, a list, a table, figures.
type block struct {
	Heading string
	Text    string
	Items   []string
	Table   *grid
	Figures []figure
}

// grid is a table of texts. The first column holds names, the others numbers.
type grid struct {
	Head  []string
	Rows  [][]string
	Notes map[[2]int]string // tooltips, by row and column
	Left  int               // columns that are texts and not numbers
}

func (g *grid) add(cells ...string) { g.Rows = append(g.Rows, cells) }

func (g *grid) note(row, column int, text string) {
	if g.Notes == nil {
		g.Notes = map[[2]int]string{}
	}
	g.Notes[[2]int{row, column}] = text
}

// figure is a chart with what it shows.
type figure struct {
	Name    string // of its file
	SVG     string
	Caption string
}

func (d *document) heading(text string) { d.Blocks = append(d.Blocks, block{Heading: text}) }

func (d *document) text(format string, args ...any) {
	d.Blocks = append(d.Blocks, block{Text: fmt.Sprintf(format, args...)})
}

func (d *document) list(items []string) { d.Blocks = append(d.Blocks, block{Items: items}) }

func (d *document) table(g *grid) { d.Blocks = append(d.Blocks, block{Table: g}) }

func (d *document) figures(all ...figure) { d.Blocks = append(d.Blocks, block{Figures: all}) }

// markdown writes the document; figures are files in figures/.
func (d *document) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\n%s\n", d.Title, d.Lead)
	for _, x := range d.Blocks {
		b.WriteByte('\n')
		switch {
		case x.Heading != "":
			fmt.Fprintf(&b, "## %s\n", x.Heading)
		case x.Text != "":
			fmt.Fprintf(&b, "%s\n", x.Text)
		case x.Table != nil:
			x.Table.markdown(&b)
		}
		for _, item := range x.Items {
			fmt.Fprintf(&b, "- %s\n", item)
		}
		for _, f := range x.Figures {
			fmt.Fprintf(&b, "![%s](%s/%s.svg)\n\n", f.Caption, figuresDir, f.Name)
		}
	}
	return b.Bytes()
}

func (g *grid) markdown(b *bytes.Buffer) {
	row := func(cells []string) {
		escaped := make([]string, len(cells))
		for i, c := range cells {
			escaped[i] = strings.ReplaceAll(c, "|", `\|`)
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(escaped, " | "))
	}
	row(g.Head)
	rule := make([]string, len(g.Head))
	for i := range rule {
		if rule[i] = "---:"; i < g.Left {
			rule[i] = "---"
		}
	}
	row(rule)
	for _, r := range g.Rows {
		row(r)
	}
}

//go:embed report.html.tmpl
var pageText string

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"svg":  func(text string) template.HTML { return template.HTML(text) },
	"note": func(g *grid, row, column int) string { return g.Notes[[2]int{row, column}] },
	"class": func(g *grid, column int, text string) string {
		class := "number"
		if column < g.Left {
			class = "name"
		}
		switch text {
		case "better", "worse", "tie", "reference":
			class += " " + text
		}
		return class
	},
}).Parse(pageText))

// html writes the document as a page that needs nothing else.
func (d *document) html() ([]byte, error) {
	var b bytes.Buffer
	err := page.Execute(&b, d)
	return b.Bytes(), err
}
