package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/wheelmq/wheelmq/engine/client"
)

// A board is a terminal with a line for each topic, the newest message behind it. Topics that find no more room are counted
// in the last line.
type board struct {
	rows, columns int
	lines         map[string]int // from 1
	without       map[string]bool
}

// newBoard takes over the terminal that w is; nil where it is none.
func newBoard(w io.Writer) *board {
	f, ok := w.(*os.File)
	if !ok || !isTerminal(f) {
		return nil
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Row < 3 || size.Col == 0 {
		size = &unix.Winsize{Row: 24, Col: 80}
	}
	return &board{rows: int(size.Row) - 2, columns: int(size.Col), lines: map[string]int{}, without: map[string]bool{}}
}

// mostWithout bounds the topics that are remembered without a line.
const mostWithout = 10_000

func (b *board) write(w *bufio.Writer, m *client.Message) {
	if len(b.lines) == 0 {
		_, _ = w.WriteString("\x1b[H\x1b[J") // from the top
	}
	n := b.lines[m.Topic]
	switch {
	case n > 0:
	case len(b.lines) < b.rows:
		n = len(b.lines) + 1
		b.lines[m.Topic] = n
	default:
		if len(b.without) < mostWithout {
			b.without[m.Topic] = true
		}
		fmt.Fprintf(w, "\x1b[%d;1H\x1b[Kand %d more topics", b.rows+1, len(b.without))
		return
	}
	fmt.Fprintf(w, "\x1b[%d;1H\x1b[K%s\x1b[%d;1H", n, oneLine(m.Topic+" "+string(m.Payload), b.columns), len(b.lines)+1)
}

// oneLine is text in at most so many columns, with dots for what has no shape.
func oneLine(text string, columns int) string {
	n := 0
	for i := range text {
		if n == columns {
			text = text[:i]
			break
		}
		n++
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '.'
	}, text)
}
