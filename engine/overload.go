package engine

import (
	"sync/atomic"
	"time"

	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/internal/metrics"
)

// A lateness is how long what is ready to be read waits for its loop: for how
// long a tick was due; and while clients connect, how long the loop takes to come
// to a task that it posts to itself, one at a time. Such a task measures where
// connections are read only: posted by another task it is run right behind it.
// One late answer is a garbage collection or another process; two in a row are
// a queue. Loop-owned.
type lateness struct {
	asked        clock.Time    // when the probe that is under way was posted; 0: none is
	noted        clock.Time    // when last was
	last, before time.Duration // what the last two took

	warned clock.Time // when it was last logged

	// any goroutine
	over  atomic.Bool  // the bound is exceeded
	shown atomic.Int64 // last
}

const (
	latenessLasts   = time.Second      // without a probe, after which it is no more known
	latenessSilence = 30 * time.Second // between two lines in the log
	// knownLateness times Options.LoopDelay is where clients with a session are refused too.
	knownLateness = 4
)

// probe begins to measure, unless it is under way. Where a connection is read.
func (l *loop) probe() {
	if l.late.asked != 0 || l.b.options().LoopDelay < 0 {
		return
	}
	l.late.asked = l.now
	l.post(probed)
}

func probed(l *loop) {
	took := l.now.Sub(l.late.asked)
	l.late.asked = 0
	l.late.note(l, took)
}

// note takes one measurement in, and settles whether the loop is over its bound.
func (d *lateness) note(l *loop, took time.Duration) {
	if l.now.Sub(d.noted)-took > latenessLasts {
		d.last = 0
	}
	d.before, d.last, d.noted = d.last, took, l.now
	d.shown.Store(int64(took))
	most := l.b.options().LoopDelay
	d.over.Store(most > 0 && d.now(l.now) > most)
}

// now is how late the loop is, as far as two probes agree.
func (d *lateness) now(now clock.Time) time.Duration {
	if now.Sub(d.noted) > latenessLasts {
		return 0
	}
	return min(d.last, d.before)
}

// overloaded reports whether a loop is over its bound. Any goroutine.
func (b *Broker) overloaded() bool {
	for _, l := range b.loops {
		if l.late.over.Load() {
			return true
		}
	}
	return false
}

// lateness is that of the loop which is furthest behind. Any goroutine.
func (b *Broker) lateness() (d time.Duration) {
	for _, l := range b.loops {
		d = max(d, time.Duration(l.late.shown.Load()))
	}
	return d
}

// turnsAway reports whether the client cn has to come back later: who is
// connected goes first, then who has a session here, then the others.
func (l *loop) turnsAway(cn *connecting) bool {
	most := l.b.options().LoopDelay
	late := l.late.now(l.now)
	if most <= 0 || late <= most {
		return false
	}
	if cn.ClientID != "" && late <= knownLateness*most {
		if _, known := l.b.directory.Lookup(cn.ClientID); known {
			return false
		}
	}
	l.counters.Limited[metrics.Overload]++
	if d := &l.late; d.warned == 0 || l.now.Sub(d.warned) > latenessSilence {
		d.warned = l.now
		l.b.log.Warn("an event loop is late: clients without a session are refused until it has caught up", "loop", l.id, "late", late, "allowed", most)
	}
	return true
}
