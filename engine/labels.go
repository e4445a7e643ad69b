package engine

import (
	"context"
	"runtime/pprof"
	"strconv"
)

// work is what a loop is at, as profiles show it (Options.ProfileLabels).
type work uint8

const (
	workPoll    work = iota // gnet's part: waiting, accepting, opening and closing
	workRead                // packets of a connection
	workMailbox             // entries of other loops and goroutines
	workTick                // timers
	works
)

var workNames = [works]string{"poll", "read", "mailbox", "tick"}

// newLabels returns the profiler labels of loop id, one set for each kind of work.
func newLabels(id int) *[works]context.Context {
	var l [works]context.Context
	for i, name := range workNames {
		l[i] = pprof.WithLabels(context.Background(), pprof.Labels("loop", strconv.Itoa(id), "work", name))
	}
	return &l
}

// at labels the loop's goroutine with what it does from here on.
func (l *loop) at(w work) {
	if l.labels != nil {
		pprof.SetGoroutineLabels(l.labels[w])
	}
}
