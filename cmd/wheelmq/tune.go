package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
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

// releasing is set while memory is given back after passwords were hashed.
var releasing atomic.Bool

// afterHashing gives back, on a goroutine of its own, what passwords took: each
// may take 64 MiB, and the collector would keep it for minutes where nothing
// else allocates. Where it is little beside what is in use it does nothing.
func afterHashing() {
	if !reclaimable() || !releasing.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer releasing.Store(false)
		debug.FreeOSMemory()
	}()
}

// reclaimable reports whether half as much as is in use, and 32 MiB at least,
// may be garbage or free.
func reclaimable() bool {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	live := s[3].Value.Uint64()
	return s[0].Value.Uint64()+s[1].Value.Uint64()+s[2].Value.Uint64() > live+live/2+32<<20
}
