package engine

import (
	"time"

	"github.com/wheelmq/wheelmq/engine/internal/clock"
)

// flushPolicy decides at the end of a turn whether what it made is written now
// or at the end of the loop's cycle, by a wake-up that the loop posts to itself.
//
// Writing now is cheapest while traffic is sparse: the wake-up costs 1 to 3 µs
// a cycle. Where several turns of one cycle have frames for one connection,
// each of them saves a write of about 5 µs when they wait. Which it is cannot
// be seen while writing at once, since gnet does not tell where a cycle ends;
// so at most twice a second the policy waits for a few cycles and counts.
type flushPolicy struct {
	due      bool       // this turn ends a cycle: write whatever the mode
	deferred bool       // mode: write at the end of the cycle
	posted   bool       // the wake-up of this cycle is posted
	turn     uint32     // number of turns
	cycles   uint32     // deferred: cycles since the last decision
	saved    uint32     // deferred: writes that waiting saved in them
	trial    clock.Time // not deferred: when to try waiting again,
	idle     uint32     // and how many turns must come before
}

const (
	flushSample = 64                     // cycles per decision
	flushTrial  = 500 * time.Millisecond // between two trials, at least,
	flushTurns  = 64 * flushSample       // and so many turns: a loop with little to do need not try
	flushBytes  = 64 << 10               // one connection's frames are written early above this
)

// joined notes that c, which has frames of an earlier turn to write, got more.
func (p *flushPolicy) joined(c *conn) {
	if c.marked != p.turn {
		c.marked = p.turn
		p.saved++
	}
}

// now decides whether the turn's frames are written now.
func (p *flushPolicy) now(l *loop) bool {
	due := p.due
	p.due = false
	if len(l.dirty) == 0 {
		return false
	}
	if !p.deferred {
		p.idle++
		p.deferred = p.idle >= flushTurns && l.now >= p.trial
		p.cycles, p.saved = 0, 0
		return true
	}
	if !due {
		if !p.posted {
			p.posted = true
			l.mailbox.wakeOnce()
		}
		return false
	}
	p.posted = false
	if p.cycles++; p.cycles >= flushSample {
		p.deferred = 2*p.saved >= p.cycles
		p.trial, p.idle = l.now.Add(flushTrial), 0
		p.cycles, p.saved = 0, 0
	}
	return true
}
