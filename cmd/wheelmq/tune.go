package main

import (
	"context"
	"runtime/debug"
	"time"
)

// tuneInterval is how often the process looks at its connections.
const tuneInterval = time.Second

// A connect storm is stormConnections more than before; its memory is given
// back when calmSeconds have passed without another hundredth of it.
const (
	stormConnections = 1000
	calmSeconds      = 3
)

// A tuner gives memory back that a connect storm left behind.
type tuner struct {
	settled  int // connections when memory was last given back
	previous int // connections at the last look
	calm     int // looks without growth
}

// run tunes until ctx is done; connections tells how many are open.
func (t *tuner) run(ctx context.Context, connections func() int) {
	ticker := time.NewTicker(tuneInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			t.tuneMemory(connections())
		}
	}
}

// tuneMemory gives freed memory back to the system once a connect storm is over.
func (t *tuner) tuneMemory(connections int) {
	grown := connections - t.previous
	t.previous = connections
	if connections < t.settled {
		t.settled = connections
	}
	if grown*100 > stormConnections {
		t.calm = 0
		return
	}
	if t.calm++; t.calm == calmSeconds && connections-t.settled >= stormConnections {
		t.settled = connections
		debug.FreeOSMemory()
	}
}
