package engine

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/internal/limits"
	"github.com/wheelmq/wheelmq/engine/internal/metrics"
	"github.com/wheelmq/wheelmq/engine/internal/wheel"
)

// Rates bound what several clients together send and are sent, a second's worth
// at once; 0 is no bound. Where they send more they are not read from until that
// is made up for, a minute at most; where they are sent more, QoS 0 is dropped
// and the rest waits in their queues. Who connects later meets the rates that
// are in force then.
type Rates struct {
	Messages     int // PUBLISH packets a second from the clients
	Bytes        int // bytes of all packets a second from the clients
	SendMessages int // PUBLISH packets a second to the clients
	SendBytes    int // bytes of PUBLISH packets a second to the clients
}

func (r Rates) validate(what string) error {
	for name, n := range map[string]int{"Messages": r.Messages, "Bytes": r.Bytes, "SendMessages": r.SendMessages, "SendBytes": r.SendBytes} {
		if n < 0 || n > limits.MaxRate {
			return fmt.Errorf("engine: %s.%s %d: want up to %d, or 0 for no bound", what, name, n, limits.MaxRate)
		}
	}
	return nil
}

// A rate bounds what a connection sends and is sent. Loop-owned.
type rate struct {
	in, out   flow
	timer     wheel.Node[conn] // when reading goes on
	sendTimer wheel.Node[conn] // when sending goes on
	paused    bool             // it is not read from
	held      bool             // it is not sent to: conn.congested is set

	user    string     // whose meter it uses; "" none
	address netip.Addr // the same; invalid: none
}

// A flow is one direction: buckets of the connection, and those it shares.
type flow struct {
	messages, bytes         int // a second; 0: no bound
	messagesLeft, bytesLeft limits.Bucket
	shared                  []share
}

// A share is a bound that a connection has together with others.
type share struct {
	messages, bytes int // a second; 0: no bound
	left            *limits.Flow
}

func (f *flow) bounded() bool { return f.messages > 0 || f.bytes > 0 || len(f.shared) > 0 }

func (f *flow) share(messages, bytes int, left *limits.Flow) {
	if messages > 0 || bytes > 0 {
		f.shared = append(f.shared, share{messages, bytes, left})
	}
}

// take takes one packet of size bytes, and returns how long to wait for the
// connection's own bounds, and for those it shares.
func (f *flow) take(size int, isMessage bool, now clock.Time) (own, shared time.Duration) {
	if f.messages > 0 && isMessage {
		own = f.messagesLeft.Take(1, f.messages, now)
	}
	if f.bytes > 0 {
		own = max(own, f.bytesLeft.Take(size, f.bytes, now))
	}
	for i := range f.shared {
		s := &f.shared[i]
		if s.messages > 0 && isMessage {
			shared = max(shared, s.left.Messages.Take(1, s.messages, now))
		}
		if s.bytes > 0 {
			shared = max(shared, s.left.Bytes.Take(size, s.bytes, now))
		}
	}
	return own, shared
}

// debt is how long to wait still.
func (f *flow) debt(now clock.Time) time.Duration {
	d := max(f.messagesLeft.Debt(now), f.bytesLeft.Debt(now))
	for i := range f.shared {
		d = max(d, f.shared[i].left.Messages.Debt(now), f.shared[i].left.Bytes.Debt(now))
	}
	return d
}

// throttledBytes is how much may wait, beside a packet, of a connection that is
// not read from: what the transport had read before.
const throttledBytes = 256 << 10

// longestPause is how long a connection is not read from, or not sent to, at
// most: one that sends what would take longer to pay for is disconnected.
const longestPause = time.Minute

// limitRate sets what c may send and be sent, by the options, its listener, and
// what a hook decided.
func (c *conn) limitRate(cn *connecting) {
	o := c.loop.b.options()
	r := rate{
		in:  flow{messages: o.MessageRate, bytes: o.ByteRate},
		out: flow{messages: o.SendRate, bytes: o.SendByteRate},
	}
	if d := cn.terms; d != nil {
		r.in.messages, r.in.bytes = rateOf(d.MessageRate, r.in.messages), rateOf(d.ByteRate, r.in.bytes)
		r.out.messages, r.out.bytes = rateOf(d.SendRate, r.out.messages), rateOf(d.SendByteRate, r.out.bytes)
	}
	if in := c.door(); in.Rates != (Rates{}) {
		r.share(in.Rates, in.meter)
	}
	if o.UserRates != (Rates{}) && cn.UserName != "" {
		r.user = cn.UserName
		r.share(o.UserRates, c.loop.b.userMeters.Enter(r.user, c.loop.now))
	}
	if at, ok := limits.AddressOf(c.sock.RemoteAddr()); ok && o.AddressRates != (Rates{}) {
		r.address = at
		r.share(o.AddressRates, c.loop.b.addrMeters.Enter(at, c.loop.now))
	}
	if r.in.bounded() || r.out.bounded() {
		own := new(rate)
		*own = r
		own.timer.Owner, own.timer.Kind = c, timerThrottle
		own.sendTimer.Owner, own.sendTimer.Kind = c, timerHeld
		c.extend().rate = own
	}
}

func (r *rate) share(rates Rates, m *limits.Meter) {
	r.in.share(rates.Messages, rates.Bytes, &m.In)
	r.out.share(rates.SendMessages, rates.SendBytes, &m.Out)
}

// endRate ends what limitRate began: the connection is gone.
func (c *conn) endRate() {
	r, l := c.ext.rate, c.loop
	if r == nil {
		return
	}
	l.connTimers.Cancel(&r.timer)
	l.connTimers.Cancel(&r.sendTimer)
	if r.user != "" {
		l.b.userMeters.Leave(r.user, l.now)
	}
	if r.address.IsValid() {
		l.b.addrMeters.Leave(r.address, l.now)
	}
}

// rateOf is own, or common where own says nothing; 0 is no bound.
func rateOf(own, common int) int {
	switch {
	case own < 0:
		return 0
	case own > 0:
		return min(own, limits.MaxRate)
	default:
		return common
	}
}

func (c *conn) throttled() bool { return c.ext != nil && c.ext.rate != nil && c.ext.rate.paused }

// spend takes a packet that was handled from what c may send, and pauses or
// ends c where that was too much. Its subscribers have got it: a packet is
// never dropped for its sender's rate.
func (c *conn) spend(h codec.Header) {
	if c.state != connOpen || c.ext == nil || c.ext.rate == nil {
		return
	}
	r, l := c.ext.rate, c.loop
	own, shared := r.in.take(h.Size+h.Remaining, h.Type == codec.PUBLISH, l.now)
	if own == 0 && shared == 0 {
		return
	}
	if own > 0 && l.b.options().RateDisconnect || own > longestPause {
		l.counters.Limited[metrics.RateDisconnected]++
		c.fail(codec.MessageRateTooHigh, "more than the rate allows")
		return
	}
	if own > 0 {
		l.counters.Limited[metrics.RatePaused]++
	} else {
		l.counters.Limited[metrics.SharedRatePaused]++
	}
	r.paused, c.deaf = true, true
	l.connTimers.Arm(&r.timer, l.now.Add(max(own, shared)))
	c.sock.SetReading(false)
}

// unthrottle reads again, first what waited.
func (c *conn) unthrottle() {
	if c.state != connOpen || !c.throttled() {
		return
	}
	c.lastSeen = c.loop.ticks
	c.ext.rate.paused = false
	c.deaf = c.underReview()
	c.sock.SetReading(true)
	c.resumeReading()
}

// spendSent takes a PUBLISH of size bytes to c from what it may be sent, and
// holds back what follows where that was too much.
func (c *conn) spendSent(size int) {
	r, l := c.ext.rate, c.loop
	own, shared := r.out.take(size, true, l.now)
	wait := min(max(own, shared), longestPause)
	if wait == 0 || c.congested {
		return
	}
	l.counters.Limited[metrics.SendRatePaused]++
	r.held, c.congested = true, true
	c.cl.tellMembers()
	l.connTimers.Arm(&r.sendTimer, l.now.Add(wait))
}

// unhold sends again, first what waited.
func (c *conn) unhold() {
	if c.state != connOpen || !c.held() {
		return
	}
	r, l := c.ext.rate, c.loop
	if wait := min(r.out.debt(l.now), longestPause); wait > 0 {
		l.connTimers.Arm(&r.sendTimer, l.now.Add(wait))
		return
	}
	r.held, c.congested = false, false
	if c.checkOutput(c.unsent()); c.state == connOpen {
		c.pump()
	}
}

// held reports whether c is not sent to for its rate.
func (c *conn) held() bool { return c.ext != nil && c.ext.rate != nil && c.ext.rate.held }

// whySlow is why QoS 0 is dropped for c, which is congested.
func (c *conn) whySlow() hook.DropReason {
	if c.held() {
		return hook.DropRate
	}
	return hook.DropSlowReader
}
