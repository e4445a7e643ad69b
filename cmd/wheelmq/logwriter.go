package main

import (
	"io"
	"sync"
	"time"
)

// logBacklog is how many bytes of lines may wait for whoever reads the log.
const logBacklog = 4 << 20

// A logWriter takes lines and never waits for who reads them, so that a loop
// that logs does not stand still before a full pipe. Lines that would be more
// than logBacklog are dropped and counted; how many is told behind the lines
// that were kept. Write may be called from any goroutine.
type logWriter struct {
	w    io.Writer
	lost func(lines uint64) // writes to w
	most int
	wake chan struct{} // one element: there is something to do
	stop chan struct{} // closed by close
	done chan struct{} // closed when nothing more is written

	mu      sync.Mutex
	pending []byte // whole lines
	dropped uint64 // since lost was called
}

// newLogWriter starts to write to w; close ends it.
func newLogWriter(w io.Writer, most int, lost func(lines uint64)) *logWriter {
	l := &logWriter{w: w, lost: lost, most: most, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l
}

// Write takes whole lines; p stays the caller's.
func (l *logWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	if len(l.pending)+len(p) > l.most {
		l.dropped++
	} else {
		l.pending = append(l.pending, p...)
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (l *logWriter) run() {
	defer close(l.done)
	var spare []byte
	for stopping := false; ; {
		l.mu.Lock()
		lines, dropped := l.pending, l.dropped
		l.pending, l.dropped = spare[:0], 0
		l.mu.Unlock()
		if len(lines) > 0 {
			_, _ = l.w.Write(lines) // there is no other place to say that it failed
		}
		if dropped > 0 {
			l.lost(dropped)
		}
		if spare = lines; cap(spare) > 64<<10 {
			spare = nil
		}
		if len(lines) > 0 || dropped > 0 {
			continue
		}
		if stopping {
			return
		}
		select {
		case <-l.wake:
		case <-l.stop:
			stopping = true
		}
	}
}

// close has what waits written, for as long as patience.
func (l *logWriter) close(patience time.Duration) {
	close(l.stop)
	select {
	case <-l.done:
	case <-time.After(patience):
	}
}
