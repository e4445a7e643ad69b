package report

import (
	_ "embed"
	"html/template"
	"io"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

//go:embed style.css
var style string

//go:embed script.js
var script string

var functions = template.FuncMap{
	"style":    func() template.CSS { return template.CSS(style) },
	"script":   func() template.JS { return template.JS(script) },
	"join":     func(args []string) string { return shellJoin(args) },
	"when":     func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
	"receiver": receiver,
}

var page = template.Must(template.New("page").Funcs(functions).Parse(pageText))

// NewPage makes a template of another kind of page; text may use the templates "head", with the title as its value, and
// "foot", and the functions join (a command that can be pasted) and when. It panics where text is no template, and is to be
// called before the first page is written, as the value of a variable.
func NewPage(text string) *template.Template {
	return template.Must(template.Must(page.Clone()).Parse(text))
}

// A Tile is a figure at the head of a page.
type Tile struct{ Name, Value, Note string }

// WriteHTML writes the run as one page.
func (r *Run) WriteHTML(w io.Writer) error {
	return page.ExecuteTemplate(w, "run", struct {
		*Run
		Tiles  []Tile
		Charts []*chart
	}{r, r.tiles(), charts(r.Result)})
}

// tiles are what most readers look for.
func (r *Run) tiles() []Tile {
	x := r.Result
	if x == nil {
		return nil
	}
	list := []Tile{{capital(x.Unit) + "s per second", Count(x.PerSecond()), Count(float64(x.Done)) + " in " + Duration(x.Elapsed)}}
	if x.Latency.Count > 0 {
		list = append(list,
			Tile{"Latency, median", Duration(x.Latency.At(50)), "90 %: " + Duration(x.Latency.At(90))},
			Tile{"Latency, 99 %", Duration(x.Latency.At(99)), "99.9 %: " + Duration(x.Latency.At(99.9))})
	}
	if x.BrokerRSS > 0 && x.Done > 0 {
		list = append(list, Tile{"Broker's CPU per " + x.Unit, Duration(time.Duration(x.CPUPerUnit() * 1e3)), digits(x.Cores(x.BrokerCPU)) + " cores"})
	}
	if x.BrokerRSS > 0 {
		note := "resident"
		if x.ConnectionBytes > 0 {
			note = Bytes(x.ConnectionBytes) + " per connection"
		} else if x.QueuedBytes > 0 {
			note = Bytes(x.QueuedBytes) + " per stored message"
		}
		list = append(list, Tile{"Broker's memory", Bytes(float64(x.BrokerRSS)), note})
	}
	if x.Hold != nil && x.BrokerRSS > 0 {
		list = append(list, Tile{"CPU while idle", digits(100*x.Hold.Cores(x.Hold.BrokerCPU)) + " %", "of a core"})
	}
	return list
}

// capital begins a word of ours with a capital.
func capital(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

// shellJoin writes a command so that it can be pasted.
func shellJoin(args []string) string {
	var quoted []string
	for _, a := range args {
		if a == "" || strings.ContainsAny(a, " \t\n'\"\\$*?[]{}()<>|&;#~`!") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		quoted = append(quoted, a)
	}
	return strings.Join(quoted, " ")
}
