package auth

import (
	"net/netip"
	"testing"
)

// TestCrowd: one address can keep few waiting, all together not everybody.
func TestCrowd(t *testing.T) {
	x := newHashing(nil)
	guesser, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	let := func(from netip.Addr, n int) (in int) {
		for range n {
			if x.admit(from) == nil {
				in++
			}
		}
		return in
	}
	if in := let(guesser, 10_000); in != waitingByAddress {
		t.Errorf("%d of one address wait, want %d", in, waitingByAddress)
	}
	if in := let(other, 1); in != 1 {
		t.Error("another address does not come in")
	}
	x.leave(guesser)
	if in := let(guesser, 2); in != 1 {
		t.Errorf("%d in a place that became free", in)
	}
	many := 0
	for i := range 100 {
		many += let(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 10)
	}
	if many != waitingInAll-waitingByAddress-1 {
		t.Errorf("%d more wait, want %d", many, waitingInAll-waitingByAddress-1)
	}
	x.leave(other)
	if len(x.asking) == 0 || x.asked != waitingInAll-1 {
		t.Errorf("%d wait", x.asked)
	}
}
