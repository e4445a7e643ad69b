package engine

import (
	"errors"
	"net"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/limits"
	"github.com/wheelmq/wheelmq/engine/internal/metrics"
)

// enter asks the limits that hold for an address, before TLS and before it is
// known who the client is. counted says that leaveAddress has to follow.
func (l *loop) enter(in *door, from net.Addr) (code codec.ReasonCode, counted bool) {
	b := l.b
	if in.ConnectRate > 0 && !in.meter.Connect.Allow(in.ConnectRate, l.now) {
		l.counters.Limited[metrics.ListenerConnectRate]++
		return codec.ConnectionRateExceeded, false
	}
	if b.bans.Any() {
		if _, ok := b.bans.Find("", "", from, time.Now()); ok {
			l.counters.Limited[metrics.Banned]++
			return codec.Banned, false
		}
	}
	o := b.options()
	if o.AddressConnections == 0 && o.AddressConnectRate == 0 {
		return codec.Success, false
	}
	at, ok := limits.AddressOf(from)
	if !ok {
		return codec.Success, false
	}
	switch b.addresses.Enter(at, o.AddressConnections, o.AddressConnectRate, l.now) {
	case limits.TooMany:
		l.counters.Limited[metrics.AddressConnections]++
		return codec.QuotaExceeded, false
	case limits.TooFast:
		l.counters.Limited[metrics.AddressConnectRate]++
		return codec.ConnectionRateExceeded, false
	default:
		return codec.Success, true
	}
}

var unwantedText = map[codec.ReasonCode]string{
	codec.Banned:                 "banned",
	codec.QuotaExceeded:          "as many connections of this address as allowed",
	codec.ConnectionRateExceeded: "too many connect at once",
}

// tells reports whether a connection that enter refused stays open to be told
// so in answer to its CONNECT: not where that would need TLS, and not when many
// are open for it.
func (l *loop) tells(in *door) bool {
	if in.TLS != nil && !in.Detect {
		return false
	}
	if l.b.unwanted.Add(1) > connectionsBeyond {
		l.b.unwanted.Add(-1)
		return false
	}
	return true
}

// enterLate is enter for a connection whose address was not known before its
// PROXY header.
func (c *conn) enterLate() {
	if c.counted || c.unwanted != codec.Success || c.door().Proxy == nil {
		return
	}
	if c.unwanted, c.counted = c.loop.enter(c.door(), c.sock.RemoteAddr()); c.unwanted != codec.Success {
		c.loop.b.unwanted.Add(1)
	}
}

// Admit implements transport.Gatekeeper: it closes a connection that is not
// worth a handshake.
func (c *conn) Admit() bool {
	l := c.loop
	l.begin()
	defer l.end()
	l.probe()
	if c.enterLate(); c.unwanted != codec.Success {
		l.counters.Refused++
		c.drop(unwantedText[c.unwanted])
		return false
	}
	return true
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
	if most := b.options().UserConnections; most > 0 && cn.UserName != "" {
		if _, known := b.directory.Lookup(cn.ClientID); known {
			most++ // it may take over one of these
		}
		if n, _ := b.userConns.Of(cn.UserName); n >= int64(most) {
			c.loop.counters.Limited[metrics.UserConnections]++
			return codec.QuotaExceeded, "as many connections of this user as allowed"
		}
	}
	if cn.admitted {
		return codec.Success, ""
	}
	if rate := b.options().UserConnectRate; rate > 0 && cn.UserName != "" && !b.userPaces.Allow(cn.UserName, rate, c.loop.now) {
		c.loop.counters.Limited[metrics.UserConnectRate]++
		return codec.ConnectionRateExceeded, "this user connects too often"
	}
	perMinute := b.options().ClientConnectRate
	if perMinute == 0 || cn.assigned {
		cn.admitted = true
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

// countUser counts c, which is let in, among the connections of its user.
func (c *conn) countUser(name string) {
	if name != "" && c.loop.b.options().UserConnections > 0 {
		c.extend().countedUser = name
		c.loop.b.userConns.Add(name, 1, 0)
	}
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
