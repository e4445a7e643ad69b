package session

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

// fill sends n messages, of QoS 1 and 2 in turns, payload as identifier.
func fill(s *Session, n int) {
	for i := 1; i <= n; i++ {
		offer(s, fmt.Sprint(i), codec.QoS(2-i%2))
	}
}

func TestResendInOriginalOrder(t *testing.T) {
	s := attached(bounds, 6)
	fill(s, 8)
	s.Pubrec(4, codec.Success)
	s.Puback(3) // a hole
	s.Detach()
	s.Attach(100)
	want := "again 1 1, again 2 2, pubrel 4, again 5 5, again 6 6, first 7 7, first 8 8"
	if got := next(s, 0); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := next(s, 0); got != "" {
		t.Errorf("sent twice on one connection: %s", got)
	}
	for range 3 { // and so each time
		s.Detach()
		s.Attach(100)
		if got := next(s, 0); got != strings.ReplaceAll(want, "first", "again") {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestResendWithinTheQuota(t *testing.T) {
	s := attached(bounds, 10)
	fill(s, 7)
	s.Pubrec(4, codec.Success)
	s.Pubrec(6, codec.Success)
	s.Detach()
	s.Attach(2)
	f := func(want string) {
		t.Helper()
		if got := next(s, 0); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f("again 1 1, again 2 2, pubrel 4, pubrel 6") // PUBREL needs no quota
	if got := offer(s, "8", 1); got != "queued" || s.CanSendNow() {
		t.Errorf("new message before all were sent again: %s, CanSendNow %v", got, s.CanSendNow())
	}
	s.Pubcomp(4) // its PUBLISH was sent on the connection before
	f("")
	s.Puback(1)
	f("again 3 3")
	s.Puback(5) // acknowledged before it was sent again: it is not, and gives nothing back
	f("")
	s.Puback(3)
	f("again 7 7")
	s.Pubrec(2, codec.Success)
	f("")
	s.Pubcomp(2)
	f("first 8 8")
	s.Puback(7)
	s.Puback(8)
	s.Pubcomp(6)
	if s.Quota() != 2 || s.InFlight() != 0 {
		t.Errorf("quota %d, %d in flight; want 2, 0", s.Quota(), s.InFlight())
	}
}

func TestNothingOvertakesWhatIsSentAgain(t *testing.T) {
	s := attached(bounds, 5)
	fill(s, 2)
	s.Detach()
	s.Attach(5)
	if got := offer(s, "3", 1); got != "queued" || s.CanSendNow() {
		t.Errorf("offer before Next: %s, CanSendNow %v", got, s.CanSendNow())
	}
	if got, want := next(s, 0), "again 1 1, again 2 2, first 3 3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s.Puback(1)
	s.Pubrec(2, codec.UnspecifiedError)
	s.Puback(3)
	s.Detach()
	s.Attach(5)
	if got := offer(s, "4", 1); got != "sent 4" && got != "sent 1" {
		t.Errorf("offer with nothing to send again: %s", got)
	}
}

func TestSmallerQuotaThanBefore(t *testing.T) {
	s := attached(bounds, 5)
	fill(s, 5)
	for range 5 {
		s.Detach()
		s.Attach(1)
		if got := next(s, 0); got != "again 1 1" {
			t.Fatalf("got %s, want the first only", got)
		}
	}
}

func TestIdentifiersWrap(t *testing.T) {
	s := attached(&Limits{Messages: -1, Bytes: -1}, 65535)
	for i := 1; i <= 65535; i++ {
		if got := offer(s, fmt.Sprint(i), 1); got != fmt.Sprintf("sent %d", i) {
			t.Fatalf("offer %d: %s", i, got)
		}
	}
	if got := offer(s, "waits", 1); got != "queued" || s.InFlight() != 65535 {
		t.Fatalf("with all identifiers open: %s, %d in flight", got, s.InFlight())
	}
	s.Puback(40_000)
	s.Puback(7)
	if got := next(s, 0); got != "first 7 waits" {
		t.Errorf("after the wrap: %s, want the next free identifier, 7", got)
	}
	if got := offer(s, "last", 1); got != "sent 40000" {
		t.Errorf("after the wrap: %s, want 40000", got)
	}
	s.Detach()
	s.Attach(65535)
	n, previous := 0, ""
	for {
		out, ok := s.Next(0, nil)
		if !ok {
			break
		}
		if n++; n == 7 && out.PacketID != 8 { // 7 is younger
			t.Errorf("the seventh sent again is %s", sending(out))
		}
		if n == 65535 && (previous != "again 7 waits" || sending(out) != "again 40000 last") {
			t.Errorf("the last sent again are %s, %s", previous, sending(out))
		}
		previous = sending(out)
	}
	if n != 65535 {
		t.Errorf("%d sent again, want 65535", n)
	}
}

// A peerModel is a client that checks what the session sends it against the
// rules, with acknowledgements of its own choosing.
type peerModel struct {
	quota   int            // left, as the standard counts it
	most    int            // the quota's start
	open    map[uint16]int // identifier -> message, PUBLISH seen on any connection, not finished
	counted map[uint16]bool
	rel     map[uint16]bool // PUBREC was sent
	qos     map[uint16]codec.QoS
	first   int   // highest message sent for the first time
	order   []int // messages sent on this connection
}

func (p *peerModel) publish(t *testing.T, id uint16, n int, dup bool, qos codec.QoS) {
	t.Helper()
	old, known := p.open[id]
	switch {
	case dup && (!known || old != n || p.rel[id]):
		t.Fatalf("message %d sent again under %d, which is for %d, pubrel %v", n, id, old, p.rel[id])
	case !dup && known:
		t.Fatalf("message %d under %d, which is open for %d", n, id, old)
	case !dup && n != p.first+1:
		t.Fatalf("message %d after %d", n, p.first)
	case p.quota == 0:
		t.Fatalf("message %d without quota", n)
	case len(p.order) > 0 && p.order[len(p.order)-1] >= n:
		t.Fatalf("message %d after %d on one connection", n, p.order[len(p.order)-1])
	}
	p.first = max(p.first, n)
	p.open[id], p.qos[id], p.counted[id] = n, qos, true
	p.order = append(p.order, n)
	p.quota--
}

func (p *peerModel) finish(id uint16) {
	if p.counted[id] {
		p.quota++
	}
	delete(p.open, id)
	delete(p.counted, id)
	delete(p.rel, id)
	delete(p.qos, id)
}

func (p *peerModel) attach(quota int) {
	p.quota, p.most, p.order = quota, quota, nil
	clear(p.counted)
}

// TestSessionAgainstAPeer drives a session through random offers,
// acknowledgements and reconnections: every message is sent for the first time
// once and in order, sent again only on a new connection, in order, within the
// quota, and nothing is lost.
func TestSessionAgainstAPeer(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 7))
		s := New("c", &Limits{Messages: -1, Bytes: -1})
		p := &peerModel{open: map[uint16]int{}, counted: map[uint16]bool{}, rel: map[uint16]bool{}, qos: map[uint16]codec.QoS{}}
		offered, online := 0, false
		pump := func() {
			for {
				n, ok := s.Next(0, nil)
				if !ok {
					return
				}
				if n.Message == nil {
					if !p.rel[n.PacketID] {
						t.Fatalf("seed %d: PUBREL %d for no PUBREC", seed, n.PacketID)
					}
					continue
				}
				var i int
				if _, err := fmt.Sscan(string(n.Message.Payload), &i); err != nil {
					t.Fatal(err)
				}
				p.publish(t, n.PacketID, i, n.Dup, n.QoS)
			}
		}
		acknowledge := func() {
			ids := slices.Sorted(func(yield func(uint16) bool) {
				for id := range p.counted {
					if !yield(id) {
						return
					}
				}
				for id := range p.rel {
					if !p.counted[id] && !yield(id) {
						return
					}
				}
			})
			if len(ids) == 0 {
				return
			}
			id := ids[rng.IntN(len(ids))]
			switch {
			case p.rel[id]:
				s.Pubcomp(id)
				p.finish(id)
			case p.qos[id] == 1:
				s.Puback(id)
				p.finish(id)
			case rng.IntN(5) == 0:
				s.Pubrec(id, codec.UnspecifiedError)
				p.finish(id)
			default:
				s.Pubrec(id, codec.Success)
				p.rel[id] = true
			}
			pump()
		}
		for range 400 {
			switch k := rng.IntN(20); {
			case k == 0 && online:
				s.Detach()
				online = false
				p.attach(0)
			case k == 1 && !online:
				q := 1 + rng.IntN(6)
				s.Attach(uint16(q))
				p.attach(q)
				online = true
				pump()
			case k < 10 && online:
				acknowledge()
			default:
				offered++
				qos := codec.QoS(1 + rng.IntN(2))
				id, v, _ := s.Offer(out(fmt.Sprint(offered), qos), rng.IntN(10) == 0, true)
				if v == Sent {
					p.publish(t, id, offered, false, qos)
				}
			}
			if online && s.Quota() != p.quota || s.Quota() > p.most && online {
				t.Fatalf("seed %d: quota %d, want %d", seed, s.Quota(), p.quota)
			}
		}
		s.Detach()
		s.Attach(3)
		p.attach(3)
		for pump(); len(p.open) > 0; {
			acknowledge()
		}
		if n, _ := s.Queued(); n != 0 || s.InFlight() != 0 || p.first != offered {
			t.Fatalf("seed %d: %d wait, %d in flight, %d of %d sent", seed, n, s.InFlight(), p.first, offered)
		}
	}
}
