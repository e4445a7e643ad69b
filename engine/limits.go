package engine

import (
	"errors"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/limits"
	"github.com/wheelmq/wheelmq/engine/internal/metrics"
)

// admit asks the limits that hold before it is known who the client is.
func (c *conn) admit() (codec.ReasonCode, string) {
	b := c.loop.b
	o := b.options()
	if o.AddressConnections == 0 && o.AddressConnectRate == 0 {
		return codec.Success, ""
	}
	at, ok := limits.AddressOf(c.sock.RemoteAddr())
	if !ok {
		return codec.Success, ""
	}
	switch b.addresses.Enter(at, o.AddressConnections, o.AddressConnectRate, c.loop.now) {
	case limits.TooMany:
		c.loop.counters.Limited[metrics.AddressConnections]++
		return codec.QuotaExceeded, "as many connections of this address as allowed"
	case limits.TooFast:
		c.loop.counters.Limited[metrics.AddressConnectRate]++
		return codec.ConnectionRateExceeded, "this address connects too often"
	default:
		c.counted = true
		return codec.Success, ""
	}
}

// leaveAddress ends what admit counted.
func (c *conn) leaveAddress() {
	if !c.counted {
		return
	}
	c.counted = false
	if at, ok := limits.AddressOf(c.sock.RemoteAddr()); ok {
		c.loop.b.addresses.Leave(at, c.loop.now)
	}
}

// banned asks whether the client is on the list.
func (c *conn) banned(cn *connecting) (codec.ReasonCode, string) {
	if !c.loop.b.bans.Any() {
		return codec.Success, ""
	}
	if _, ok := c.loop.b.bans.Find(cn.ClientID, cn.UserName, c.sock.RemoteAddr(), time.Now()); ok {
		c.loop.counters.Limited[metrics.Banned]++
		return codec.Banned, "banned"
	}
	return codec.Success, ""
}

// allowed asks the limits of a client that is known and may come in. A client
// cannot be held back by those who only claim to be it.
func (c *conn) allowed(cn *connecting) (codec.ReasonCode, string) {
	b := c.loop.b
	if code, detail := c.banned(cn); code.Failure() { // a hook may have given it another name
		return code, detail
	}
	perMinute := b.options().ClientConnectRate
	if perMinute == 0 || cn.assigned || cn.admitted {
		return codec.Success, ""
	}
	wait, begins := b.flaps.Connect(cn.ClientID, perMinute, c.loop.now)
	if wait == 0 {
		cn.admitted = true
		return codec.Success, ""
	}
	if begins {
		b.log.Warn("a client connects too often, or two use one Client Identifier: refused for growing times",
			"client", cn.ClientID, "user", cn.UserName, "peer", c.peer(), "allowed a minute", perMinute)
	}
	c.loop.counters.Limited[metrics.ClientConnectRate]++
	return codec.ConnectionRateExceeded, "this client connects too often"
}

// A Ban keeps clients out: those of one Client Identifier, of one user name, or
// of an address or network; one of the three is set.
type Ban = limits.Ban

// Ban keeps clients out from now on, refused with 0x8A, and disconnects those
// that are connected with 0x98. It takes the place of a ban of the same
// clients. Bans end with the process. Any goroutine.
func (b *Broker) Ban(ban Ban) error {
	set := 0
	for _, is := range []bool{ban.ClientID != "", ban.UserName != "", ban.Address.IsValid()} {
		if is {
			set++
		}
	}
	if set != 1 {
		return errors.New("engine: ban: want one of ClientID, UserName and Address")
	}
	if !b.bans.Add(ban, time.Now()) {
		return errors.New("engine: ban: the list is full; remove some with Unban")
	}
	for _, l := range b.loops {
		l.endBanned(0)
	}
	return nil
}

// Unban lets clients in again that ban keeps out, of which only whom it is
// about counts, and reports whether it did. Any goroutine.
func (b *Broker) Unban(ban Ban) bool { return b.bans.Remove(ban) }

// Bans are those in force, in no order. Any goroutine.
func (b *Broker) Bans() []Ban { return b.bans.List(time.Now()) }

// endBanned disconnects who is banned of the sessions from slot from on, some a
// turn. Any goroutine.
func (l *loop) endBanned(from int) {
	l.post(func(l *loop) {
		end := min(from+inspectChunk, len(l.slots))
		for _, cl := range l.slots[min(from, end):end] {
			if cl == nil || cl.conn == nil {
				continue
			}
			who := cl.identity()
			if _, ok := l.b.bans.Find(who.ClientID, who.UserName, who.RemoteAddr, time.Now()); ok {
				cl.conn.fail(codec.AdministrativeAction, "banned")
			}
		}
		if end < len(l.slots) {
			l.endBanned(end)
		}
	})
}
