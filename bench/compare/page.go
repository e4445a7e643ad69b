package compare

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"os"
	"strings"

	pages "github.com/wheelmq/wheelmq/bench/report"
)

//go:embed page.html
var pageText string

var page = pages.NewPage(pageText)

// A group is one workload of a page.
type group struct {
	Name, About string
	Figures     []barFigure
	Columns     []metric
	Cells       [][]string // first the broker
}

// A barFigure is one figure of all brokers but the reference.
type barFigure struct {
	Name, Base string // Base: the reference's figure; "": it has none
	Bars       []bar
}

type bar struct {
	Broker, Value string
	Ratio         *barRatio // nil: there is none
	SVG           template.HTML
}

type barRatio struct{ Text, Class string }

// lessIsBetter are the figures of which a smaller one is the better one.
var lessIsBetter = map[metric]bool{cpu: true, storeCPU: true, p50: true, p99: true, p999: true, memory: true, absent: true, rss: true}

// writePage writes the comparison as one page that needs nothing beside itself.
func (r report) writePage(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := r.html(f); err != nil {
		_ = f.Close() // the first error tells more
		return err
	}
	return f.Close()
}

func (r report) html(w io.Writer) error {
	view := struct {
		report
		Against    string
		Flawed     []flawedRun
		Full       int
		Noise      string
		Groups     []group
		Candidates []settingsOf
	}{report: r, Against: r.against(), Noise: r.noise()}
	for _, one := range r.flawed() {
		view.Flawed = append(view.Flawed, flawedRun{one, one.line(cpu)})
	}
	for _, s := range r.Summaries {
		for _, one := range s.Runs {
			if one.GeneratorFull {
				view.Full++
			}
		}
		view.Groups = append(view.Groups, s.group(r.Reference))
	}
	for _, c := range r.Candidates {
		view.Candidates = append(view.Candidates, settingsOfCandidate(c))
	}
	return page.ExecuteTemplate(w, "comparison", view)
}

// A flawedRun is a run with what was wrong with it.
type flawedRun struct {
	run
	Line string
}

func (r report) against() string {
	var others []string
	for _, c := range r.Candidates[min(1, len(r.Candidates)):] {
		others = append(others, c.Name)
	}
	if len(others) == 0 {
		return r.Reference
	}
	return strings.Join(others, ", ") + " against " + r.Reference
}

// noisyShare is what other programs may use of a core before a page says so.
const noisyShare = 0.2

// noise says that other programs disturbed the measurement.
func (r report) noise() string {
	runs, noisy, most := 0, 0, 0.0
	for _, s := range r.Summaries {
		for _, one := range s.Runs {
			runs++
			if v := one.Values[other]; v > noisyShare {
				noisy++
				most = max(most, v)
			}
		}
	}
	if noisy == 0 {
		return ""
	}
	return fmt.Sprintf("Other programs used more than %.1f cores in %d of %d runs, at most %.1f: the machine was not quiet.", noisyShare, noisy, runs, most)
}

// settingsOf is how a broker was started.
type settingsOf struct {
	Name, Version string
	Setups        []setupOf
}

type setupOf struct {
	Mode mode
	setup
}

func settingsOfCandidate(c candidate) settingsOf {
	s := settingsOf{Name: c.Name, Version: c.Version}
	for _, m := range []mode{plain, secure, web, both, local, durable} {
		if one, ok := c.in(m); ok {
			s.Setups = append(s.Setups, setupOf{m, one})
		}
	}
	return s
}

func (s summary) group(reference string) group {
	g := group{Name: s.Name, About: s.About, Columns: s.Columns}
	base := map[metric]spread{}
	for _, line := range s.Rows {
		cells := []string{line.Broker}
		for _, m := range s.Columns {
			cells = append(cells, line.cell(m))
		}
		if g.Cells = append(g.Cells, cells); line.Broker == reference {
			base = line.Figures
		}
	}
	for _, m := range s.Columns {
		name, ok := tableNames[m]
		if !ok || isLatency(m) && !strings.HasPrefix(s.Name, "rate") {
			continue
		}
		f := barFigure{Name: name}
		if v, ok := base[m]; ok {
			f.Base = pageFormat(m, v.Median) + s.full(reference, m)
		}
		for _, line := range s.Rows {
			if line.Broker != reference && !line.Absent {
				f.Bars = append(f.Bars, line.bar(m, s.full(line.Broker, m)))
			}
		}
		g.Figures = append(g.Figures, f)
	}
	return g
}

func isLatency(m metric) bool { return m == p50 || m == p99 || m == p999 }

// pageFormat parts the thousands of what can be many.
func pageFormat(m metric, v float64) string {
	if m == rate || m == storeRate || m == memory || m == absent || isLatency(m) {
		return pages.Count(v)
	}
	return format(m, v)
}

// full marks the rates of a broker that the generator may have held back.
func (s summary) full(broker string, m metric) string {
	for _, r := range s.Runs {
		if r.Broker == broker && r.GeneratorFull && m == rate {
			return "*"
		}
	}
	return ""
}

func (l row) bar(m metric, mark string) bar {
	b := bar{Broker: l.Broker, Value: "failed"}
	if v, ok := l.Figures[m]; ok {
		b.Value = pageFormat(m, v.Median) + mark
	}
	x, ok := l.Ratios[m]
	if !ok {
		b.SVG = drawScale("")
		return b
	}
	b.Ratio = &barRatio{Text: ratioText(x.Median), Class: judgeRatio(m, x.Median)}
	b.SVG = drawRatio(x, b.Ratio.Class)
	return b
}

// ratioText has three digits that mean something.
func ratioText(v float64) string { return fmt.Sprintf("%.3g", v) }

// evenRatio is by how much a figure differs at least that is called better or worse.
const evenRatio = 1.03

func judgeRatio(m metric, v float64) string {
	if lessIsBetter[m] {
		v = 1 / v
	}
	switch {
	case v > evenRatio:
		return "fast"
	case v < 1/evenRatio:
		return "slow"
	}
	return "even"
}

// A bar chart's width in its own units, and the factor at its edges.
const (
	barWidth = 480
	barEdge  = 256
)

// at is where a ratio lies on the logarithmic scale; what is beyond the edge lies at it.
func at(v float64) float64 {
	share := math.Log(max(v, 1e-9)) / math.Log(barEdge)
	return barWidth / 2 * (1 + max(-1, min(1, share)))
}

func drawScale(inside string) template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d 20" preserveAspectRatio="none" aria-hidden="true">`, barWidth)
	for _, v := range []float64{1. / 64, 1. / 16, 1. / 4, 4, 16, 64} {
		fmt.Fprintf(&b, `<line class="scale" x1="%.1f" x2="%.1f" y1="0" y2="20"/>`, at(v), at(v))
	}
	b.WriteString(inside)
	fmt.Fprintf(&b, `<line class="one" x1="%d" x2="%[1]d" y1="0" y2="20"/></svg>`, barWidth/2)
	return template.HTML(b.String())
}

func drawRatio(x spread, class string) template.HTML {
	left, right := min(at(1), at(x.Median)), max(at(1), at(x.Median))
	return drawScale(fmt.Sprintf(`<rect class="%s" x="%.1f" y="4" width="%.1f" height="12" rx="2" fill="currentColor"/>`+
		`<line class="whisker" x1="%.1f" x2="%.1f" y1="10" y2="10"/>`, cmp.Or(class, "even"), left, max(1, right-left), at(x.Min), at(x.Max)))
}
