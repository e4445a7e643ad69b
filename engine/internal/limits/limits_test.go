package limits

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/engine/internal/clock"
)

func TestBucketKeepsItsRate(t *testing.T) {
	for _, rate := range []int{1, 7, 1000, 100_000_000} {
		var b Bucket
		start := clock.Time(time.Hour)
		now, taken := start, 0
		for now.Sub(start) < 100*time.Second {
			n := max(1, rate/10)
			now = now.Add(b.Take(n, rate, now))
			taken += n
		}
		if want := 101 * rate; taken < want-rate/10-1 || taken > want+rate/5+1 {
			t.Errorf("rate %d: %d in 100 s and a burst, want about %d", rate, taken, want)
		}
	}
}

func TestBucketTakesTheLargestPacketAtTheLowestRate(t *testing.T) {
	var b Bucket
	if w := b.Take(1<<32, 1, clock.Time(time.Hour)); w != (1<<32-1)*time.Second {
		t.Fatal(w)
	}
}

func TestAddressesForgetWhoIsIdle(t *testing.T) {
	var a Addresses
	now := clock.Time(time.Hour)
	for i := range 100_000 {
		at := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if v := a.Enter(at, 1, 5, now); v != Allowed {
			t.Fatal(v)
		}
		if v := a.Enter(at, 1, 5, now); v != TooMany {
			t.Fatal(v)
		}
		a.Leave(at, now)
		now = now.Add(100 * time.Microsecond)
	}
	if n := a.all.len(); n > 64*2*smallShard {
		t.Fatalf("%d entries of addresses that are gone", n)
	}
}

func TestAddressOf(t *testing.T) {
	for in, want := range map[string]string{"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3::4": "2001:db8:1:2::"} {
		got, ok := AddressOf(&net.TCPAddr{IP: net.ParseIP(in), Port: 5})
		if !ok || got.String() != want {
			t.Errorf("%s: %v, want %s", in, got, want)
		}
	}
	if _, ok := AddressOf(&net.UnixAddr{Name: "x"}); ok {
		t.Error("a unix socket has no address")
	}
}

func TestFlapsBackOff(t *testing.T) {
	var f Flaps
	now := clock.Time(time.Hour)
	var waits []time.Duration
	episodes := 0
	for range 400 {
		wait, begins := f.Connect("x", 6, now)
		if begins {
			episodes++
		}
		if wait > 0 {
			waits = append(waits, wait)
		}
		now = now.Add(max(wait, time.Millisecond))
	}
	if episodes != 1 || waits[0] != time.Second || waits[1] != 2*time.Second || waits[2] != 4*time.Second {
		t.Fatalf("%d episodes, waits %v", episodes, waits)
	}
	for _, w := range waits {
		if w > longestBackOff {
			t.Fatal(w)
		}
	}
	if wait, _ := f.Connect("y", 6, now); wait != 0 {
		t.Fatal("another client is refused")
	}
	now = now.Add(calm + longestBackOff + time.Second)
	if wait, _ := f.Connect("x", 6, now); wait != 0 {
		t.Fatal("not forgiven")
	}
}

func TestBans(t *testing.T) {
	now := time.Now()
	var l Bans
	from := func(s string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(s)} }
	l.Add(Ban{Address: netip.MustParsePrefix("10.1.2.3/8"), Reason: "a"}, now)
	l.Add(Ban{Address: netip.MustParsePrefix("2001:db8::/32")}, now)
	l.Add(Ban{UserName: "u", Until: now.Add(time.Minute)}, now)
	for _, c := range []struct {
		client, user, from string
		after              time.Duration
		want               bool
	}{
		{"c", "", "10.9.9.9", 0, true}, {"c", "", "11.9.9.9", 0, false}, {"c", "", "2001:db8:5::1", 0, true},
		{"c", "", "2001:db9::1", 0, false}, {"c", "u", "11.0.0.1", 0, true}, {"c", "u", "11.0.0.1", time.Hour, false},
		{"u", "", "11.0.0.1", 0, false}, {"c", "", "", 0, false},
	} {
		if _, got := l.Find(c.client, c.user, from(c.from), now.Add(c.after)); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if n := len(l.List(now.Add(time.Hour))); n != 2 {
		t.Error(n, "bans in force after an hour")
	}
	for _, b := range l.List(now) {
		if !l.Remove(b) {
			t.Error("not removed", b)
		}
	}
	if l.Any() || len(l.nets) != 0 {
		t.Error("something is left")
	}
	for i := range MaxBans {
		l.Add(Ban{ClientID: fmt.Sprint(i), Until: now.Add(time.Second)}, now)
	}
	if l.Add(Ban{ClientID: "one more"}, now) {
		t.Error("the list has no bound")
	}
	if !l.Add(Ban{ClientID: "one more"}, now.Add(time.Minute)) {
		t.Error("what is over takes place for ever")
	}
}

func BenchmarkBucketTake(b *testing.B) {
	b.ReportAllocs()
	var x Bucket
	now := clock.Time(time.Hour)
	for b.Loop() {
		now += 10
		x.Take(1, 1000, now)
	}
}

func TestSharedBucket(t *testing.T) {
	var b Shared
	now := clock.Time(time.Hour)
	for range 10 { // a second's worth at once
		if w := b.Take(1, 10, now); w != 0 {
			t.Fatal(w)
		}
	}
	if w := b.Take(5, 10, now); w != 500*time.Millisecond || b.Debt(now) != w {
		t.Fatalf("waits %v, in debt for %v; want half a second", w, b.Debt(now))
	}
	if w := b.Take(1_000_000, 10, now); w != deepest {
		t.Fatalf("waits %v: one taker shuts the others out", w)
	}
	if n := testing.AllocsPerRun(100, func() { b.Take(1, 10, now) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// Many goroutines together get the rate and no more.
func TestSharedBucketIsExact(t *testing.T) {
	var b Shared
	now := clock.Time(time.Hour)
	var free atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				if b.Take(1, 2000, now) == 0 {
					free.Add(1)
				}
			}
		})
	}
	all.Wait()
	if n := free.Load(); n != 2000 {
		t.Fatalf("%d of 8000 were free, want a second's worth: 2000", n)
	}
	if w := b.Debt(now); w != 3*time.Second {
		t.Fatalf("in debt for %v, want 3 s", w)
	}
}

// A meter is kept while somebody uses it, and until it is paid for.
func TestMeters(t *testing.T) {
	var m Meters[string]
	now := clock.Time(time.Hour)
	a := m.Enter("u", now)
	if m.Enter("u", now) != a {
		t.Fatal("two connections of one user have two meters")
	}
	m.Leave("u", now)
	a.In.Messages.Take(50, 10, now)
	m.Leave("u", now)
	if m.Enter("u", now.Add(time.Second)) != a {
		t.Fatal("connecting anew pays debts")
	}
	m.Leave("u", now.Add(time.Second))
	m.Enter("u", now.Add(6*time.Second))
	m.Leave("u", now.Add(6*time.Second))
	if n := m.all.len(); n != 0 {
		t.Fatalf("%d meters of nobody", n)
	}
}

func TestHoldings(t *testing.T) {
	var h Holdings
	h.Add("a", 2, 30)
	h.Add("a", -1, -10)
	if n, bytes := h.Of("a"); n != 1 || bytes != 20 {
		t.Fatal(n, bytes)
	}
	h.Add("a", -1, -20)
	if n, _ := h.Of("b"); n != 0 || h.all.len() != 0 {
		t.Fatal("who keeps nothing is remembered")
	}
}
