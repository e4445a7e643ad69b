package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// A chart is lines over an axis, drawn as SVG.
type chart struct {
	Title  string
	About  string
	x      axis
	y      axis
	lines  []line
	shaded [2]float64 // from and to on the x axis: the measured window; empty: none
}

// A line is one series. Points ascend in X.
type line struct {
	name   string
	class  string // of its colour: c1 to c4
	points []point
}

type point struct{ X, Y float64 }

// An axis says how its values are written and where they lie.
type axis struct {
	low, high float64
	log       bool // positive values, one decade after the other
	ticks     []float64
	write     func(float64) string
}

// Size of a chart in its own units; the page scales it to its column.
const (
	chartWidth  = 520.0
	chartHeight = 260.0
	marginLeft  = 62.0
	marginRight = 14.0
	marginTop   = 12.0
	marginFoot  = 30.0
)

// place is where a value lies between from and to.
func (a axis) place(v, from, to float64) float64 {
	low, high := a.low, a.high
	if a.log {
		v, low, high = math.Log10(max(v, a.low)), math.Log10(a.low), math.Log10(a.high)
	}
	if high <= low {
		return from
	}
	return from + (to-from)*min(1, max(0, (v-low)/(high-low)))
}

func (c *chart) px(v float64) float64 { return c.x.place(v, marginLeft, chartWidth-marginRight) }
func (c *chart) py(v float64) float64 { return c.y.place(v, chartHeight-marginFoot, marginTop) }

// linear is an axis from 0 to a round number above high.
func linear(high float64, write func(float64) string, step func(float64) float64) axis {
	if high <= 0 {
		high = 1
	}
	const about = 5
	s := step(high / about)
	a := axis{write: write}
	for v := 0.0; ; v += s {
		a.ticks = append(a.ticks, v)
		if a.high = v; v >= high {
			return a
		}
	}
}

// roundStep is the next of 1, 2, 5, 10, 20 ...
func roundStep(v float64) float64 {
	decade := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*decade*(1+1e-9) {
			return m * decade
		}
	}
	return 10 * decade
}

// binaryStep is the next power of two.
func binaryStep(v float64) float64 { return math.Pow(2, math.Ceil(math.Log2(v))) }

// decades is a logarithmic axis around low and high, which are positive.
func decades(low, high float64, write func(float64) string) axis {
	a := axis{log: true, write: write}
	from, to := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	if to <= from {
		to = from + 1
	}
	for e := from; e <= to; e++ {
		a.ticks = append(a.ticks, math.Pow(10, e))
	}
	a.low, a.high = a.ticks[0], a.ticks[len(a.ticks)-1]
	return a
}

// SVG draws the chart. Its texts come from this package only.
func (c *chart) SVG() template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, chartWidth, chartHeight, template.HTMLEscapeString(c.Title))
	if c.shaded[1] > c.shaded[0] {
		fmt.Fprintf(&b, `<rect class="window" x="%.1f" y="%g" width="%.1f" height="%g"/>`,
			c.px(c.shaded[0]), marginTop, c.px(c.shaded[1])-c.px(c.shaded[0]), chartHeight-marginTop-marginFoot)
	}
	for _, v := range c.y.ticks {
		y := c.py(v)
		fmt.Fprintf(&b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/>`, marginLeft, chartWidth-marginRight, y, y)
		fmt.Fprintf(&b, `<text x="%g" y="%.1f" text-anchor="end">%s</text>`, marginLeft-7, y+4, template.HTMLEscapeString(c.y.write(v)))
	}
	for _, v := range c.x.ticks {
		x := c.px(v)
		fmt.Fprintf(&b, `<line class="tick" x1="%.1f" x2="%.1f" y1="%g" y2="%g"/>`, x, x, chartHeight-marginFoot, chartHeight-marginFoot+4)
		anchor := "middle"
		if x > chartWidth-3*marginRight {
			anchor = "end" // else the edge cuts it
			x = chartWidth
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%g" text-anchor="%s">%s</text>`, x, chartHeight-marginFoot+18, anchor, template.HTMLEscapeString(c.x.write(v)))
	}
	for _, l := range c.lines {
		c.draw(&b, l)
	}
	b.WriteString(`<line class="cross" y1="` + fmt.Sprint(marginTop) + `" y2="` + fmt.Sprint(chartHeight-marginFoot) + `" x1="-9" x2="-9"/></svg>`)
	return template.HTML(b.String())
}

func (c *chart) draw(b *strings.Builder, l line) {
	if len(l.points) == 1 {
		fmt.Fprintf(b, `<circle class="dot %s" cx="%.1f" cy="%.1f" r="3"/>`, l.class, c.px(l.points[0].X), c.py(l.points[0].Y))
		return
	}
	fmt.Fprintf(b, `<polyline class="line %s" points="`, l.class)
	for i, p := range l.points {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(b, "%.1f,%.1f", c.px(p.X), c.py(p.Y))
	}
	b.WriteString(`"/>`)
}

// A Key is a name and a colour.
type Key struct{ Name, Class string }

// Keys is the legend; one line needs none.
func (c *chart) Keys() []Key {
	if len(c.lines) < 2 {
		return nil
	}
	var keys []Key
	for _, l := range c.lines {
		keys = append(keys, Key{l.name, l.class})
	}
	return keys
}

// hover is what the page's script shows under the pointer: places in the chart's units and texts.
type hover struct {
	X    []float64 `json:"x"`
	Text []string  `json:"t"`
}

// Hover has one text for each point of the first line; other lines have the same places.
func (c *chart) Hover() hover {
	h := hover{X: []float64{}, Text: []string{}}
	if len(c.lines) == 0 {
		return h
	}
	for i, p := range c.lines[0].points {
		text := c.x.write(p.X)
		for _, l := range c.lines {
			if i < len(l.points) && l.points[i].X == p.X {
				text += fmt.Sprintf("\n%s %s", l.name, c.y.write(l.points[i].Y))
			}
		}
		h.X = append(h.X, math.Round(c.px(p.X)*10)/10)
		h.Text = append(h.Text, text)
	}
	return h
}
