package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// TestLogWriterDoesNotWait: nobody reads, and Write returns all the same. What
// was kept is whole and in order, and what was not is told.
func TestLogWriterDoesNotWait(t *testing.T) {
	const most, total = 1000, 500
	r, w := io.Pipe() // a write waits until everything of it was read
	l := newLogWriter(w, most, func(n uint64) { fmt.Fprintf(w, "lost %d\n", n) })
	for i := range total {
		if _, err := fmt.Fprintf(l, "line %d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		l.close(time.Minute)
		w.Close()
	}()
	next, kept, lost := 0, 0, 0
	for s := bufio.NewScanner(r); s.Scan(); {
		var n int
		switch {
		case strings.HasPrefix(s.Text(), "line "):
			if _, err := fmt.Sscanf(s.Text(), "line %d", &n); err != nil || n < next {
				t.Errorf("%q after line %d", s.Text(), next-1)
			}
			next = n + 1
			kept++
		default:
			if _, err := fmt.Sscanf(s.Text(), "lost %d", &n); err != nil {
				t.Errorf("%q", s.Text())
			}
			lost += n
		}
	}
	if kept+lost != total || lost == 0 || kept == 0 {
		t.Errorf("%d lines kept, %d lost, %d written", kept, lost, total)
	}
}

func TestLogWriterEnds(t *testing.T) {
	var b bytes.Buffer
	l := newLogWriter(&b, 100, nil)
	fmt.Fprintln(l, "last")
	l.close(time.Minute)
	if b.String() != "last\n" {
		t.Errorf("%q", &b)
	}
	r, w := io.Pipe()
	l = newLogWriter(w, 100, nil)
	fmt.Fprintln(l, "nobody reads")
	l.close(time.Millisecond) // returns
	r.Close()
	<-l.done
}
