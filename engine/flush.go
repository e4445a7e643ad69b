package engine

// flushPolicy decides at the end of a turn whether what it made is written now
// or at the end of the loop's cycle, by a wake-up that the loop posts to itself.
//
// Writing now is cheapest while traffic is sparse. Where several connections
// feed one subscriber, one write per cycle instead of one per publisher saves
// more than the wake-up costs. The sign of the latter is a connection that is
// written again within a few flushes; the sign that waiting is useless is a
// cycle with hardly more than one turn in it. After a useless trial the next
// one waits longer.
type flushPolicy struct {
	due      bool   // this turn ends a cycle: write whatever the mode
	deferred bool   // mode: write at the end of the cycle
	posted   bool   // the wake-up of this cycle is posted
	seq      uint32 // number of flushes
	marks    uint32 // connections marked since the last decision
	repeats  uint32 // of these, marked again within flushNear flushes
	turns    uint32 // in deferred mode: turns since the last decision
	cycles   uint32 // and flushes
	pause    uint32 // marks to let pass before deferring is tried again
	backoff  uint32 // the next pause
}

const (
	flushNear     = 16   // flushes within which a second mark counts as a repeat
	flushSample   = 64   // marks, or cycles, per decision
	flushPauseMin = 1024 // marks
	flushPauseMax = 1 << 20
	flushBytes    = 64 << 10 // one connection's frames are written early above this
)

// mark notes that c has frames to write.
func (p *flushPolicy) mark(c *conn) {
	p.marks++
	if p.seq-c.flushed < flushNear {
		p.repeats++
	}
}

// now decides whether the turn's frames are written now.
func (p *flushPolicy) now(l *loop) bool {
	if len(l.dirty) == 0 {
		p.due = false
		return false
	}
	if !p.deferred {
		p.due = false
		p.seq++
		p.tryDeferring()
		return true
	}
	if !p.due {
		p.turns++
		if !p.posted {
			p.posted = true
			l.mailbox.wakeOnce()
		}
		return false
	}
	p.due, p.posted = false, false
	p.seq++
	p.cycles++
	p.tryWritingNow()
	return true
}

func (p *flushPolicy) tryDeferring() {
	if p.marks < flushSample {
		return
	}
	if p.pause > p.marks {
		p.pause -= p.marks
	} else {
		p.pause = 0
		p.deferred = p.repeats*4 > p.marks
	}
	p.marks, p.repeats, p.turns, p.cycles = 0, 0, 0, 0
}

func (p *flushPolicy) tryWritingNow() {
	if p.cycles < flushSample {
		return
	}
	if p.turns*2 < p.cycles*3 {
		p.deferred = false
		p.backoff = min(max(2*p.backoff, flushPauseMin), flushPauseMax)
		p.pause = p.backoff
	} else {
		p.backoff = 0
	}
	p.marks, p.repeats, p.turns, p.cycles = 0, 0, 0, 0
}
