package report

import (
	"fmt"
	"io"
	"os"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/wheelmq/wheelmq/bench/load"
)

// plainEvery is how often a progress line is printed where it cannot be overwritten.
const plainEvery = 5 * time.Second

// A Progress shows samples while they come: one line that is overwritten on a terminal, else a line
// every five seconds.
//
// Ownership: one goroutine at a time.
type Progress struct {
	w        io.Writer
	unit     string
	clients  int
	terminal *os.File // nil: not one
	next     time.Duration
	shown    load.Phase
	lines    int
	flaws    uint64
}

// NewProgress shows the progress of a workload with so many clients on w. unit is the plural of what
// the workload counts.
func NewProgress(w io.Writer, unit string, clients int) *Progress {
	p := &Progress{w: w, unit: unit, clients: clients}
	if f, ok := w.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			p.terminal = f
		}
	}
	return p
}

// Show shows one sample.
func (p *Progress) Show(s load.Sample) {
	p.flaws += s.Flaws
	text := p.line(s)
	if p.terminal == nil {
		if p.lines > 0 && s.At < p.next && s.Phase == p.shown {
			return
		}
		p.next, p.shown = s.At+plainEvery, s.Phase
		fmt.Fprintln(p.w, text)
		p.lines++
		return
	}
	if size, err := unix.IoctlGetWinsize(int(p.terminal.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		text = cut(text, int(size.Col)-1)
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", text) // to the start of the line, and clear it
	p.lines++
}

// Done clears the line.
func (p *Progress) Done() {
	if p.terminal != nil && p.lines > 0 {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func (p *Progress) line(s load.Sample) string {
	text := fmt.Sprintf("%6.1f s  %-10s", s.At.Seconds(), s.Phase)
	switch {
	case s.Phase == load.Connecting, s.Phase == load.Holding, s.Phase == load.Measuring && p.unit == "connections":
		text += fmt.Sprintf("  %s of %s up", Count(float64(s.Open)), Count(float64(p.clients)))
	case s.Phase == load.Preparing, s.Phase == load.Cleaning:
		text += fmt.Sprintf("  %s/s published", Count(per(s.Sent, s.Span)))
	}
	if s.Done > 0 {
		text += fmt.Sprintf("  %s %s/s", Count(per(s.Done, s.Span)), p.unit)
	}
	if s.P50 > 0 {
		text += fmt.Sprintf("  p50 %s  p99 %s", Duration(s.P50), Duration(s.P99))
	}
	if p.flaws == 0 {
		text += "  no errors"
	} else {
		text += fmt.Sprintf("  %s ERRORS", Count(float64(p.flaws)))
	}
	if s.Left > 0 {
		text += fmt.Sprintf("  %.0f s left", s.Left.Seconds())
	}
	return text
}

func per(n uint64, span time.Duration) float64 {
	if span <= 0 {
		return 0
	}
	return float64(n) / span.Seconds()
}

// cut leaves at most so many characters.
func cut(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:max(0, most)])
}
