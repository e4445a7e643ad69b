package limits

import (
	"net"
	"net/netip"

	"github.com/wheelmq/wheelmq/engine/internal/clock"
)

// Addresses counts the connections of each address, and how fast it connects.
// The zero value is ready. Any goroutine.
type Addresses struct {
	all shards[netip.Addr, address]
}

type address struct {
	conns   int
	connect Bucket
}

// A Verdict on a connection.
type Verdict uint8

// The verdicts.
const (
	Allowed Verdict = iota
	TooMany         // connections of the address
	TooFast         // connects of the address
)

// Enter asks whether one more connection of at may come in, at most of them at
// once and rate a second, 0 for any number. If so it counts until Leave.
func (a *Addresses) Enter(at netip.Addr, most, rate int, now clock.Time) (v Verdict) {
	a.all.with(at, true, idleAt(now), func(e *address) {
		switch {
		case most > 0 && e.conns >= most:
			v = TooMany
		case rate > 0 && !e.connect.Allow(rate, now):
			v = TooFast
		default:
			e.conns++
		}
	})
	return v
}

// Leave ends one connection that entered.
func (a *Addresses) Leave(at netip.Addr, now clock.Time) {
	a.all.with(at, false, idleAt(now), func(e *address) {
		if e != nil {
			e.conns--
		}
	})
}

func idleAt(now clock.Time) func(*address) bool {
	return func(e *address) bool { return e.conns == 0 && e.connect.at <= now }
}

// AddressOf is the address of a that limits count by: of IPv6 the /64 network,
// which is one customer's. ok is false where a has none, as of unix sockets.
func AddressOf(a net.Addr) (at netip.Addr, ok bool) {
	at, ok = ipOf(a)
	if ok && at.Is6() {
		p, _ := at.Prefix(64) // 64 bits fit
		at = p.Addr()
	}
	return at, ok
}

func ipOf(a net.Addr) (netip.Addr, bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	at, ok := netip.AddrFromSlice(t.IP)
	return at.Unmap(), ok
}
