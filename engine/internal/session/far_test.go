package session

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// A farModel is a store, publishers on several loops, and a client that comes
// and goes, around one session whose queue is mostly in the store.
type farModel struct {
	t       *testing.T
	rng     *rand.Rand
	s       *Session
	next    uint64              // position to draw
	kept    map[uint64]Outbound // queued, in the store
	transit [3][]Outbound       // on its way here, of each loop
	fence   [3]int              // of the entries on their way, those before the fence
	fencing bool
	piece   []Outbound // read, and not taken in yet
	last    uint64
	end     bool
	reading *Far
	sent    []string // in order
}

func (m *farModel) publish() {
	loop := m.rng.IntN(len(m.transit))
	o := out(fmt.Sprintf("%d/%d", loop, m.next), 1)
	o.Stored = m.next
	if m.rng.IntN(10) == 0 {
		o.Extra = &Extra{Origin: m}
	}
	m.kept[m.next] = o
	m.next++
	m.transit[loop] = append(m.transit[loop], o)
}

func (m *farModel) arrive() {
	loop := m.rng.IntN(len(m.transit))
	if len(m.transit[loop]) == 0 {
		return
	}
	o := m.transit[loop][0]
	m.transit[loop] = m.transit[loop][1:]
	m.fence[loop]--
	id, v, _ := m.s.Offer(o, false, m.rng.IntN(3) == 0)
	switch v {
	case Sent:
		m.take(id, &o)
	case Queued, Stored:
	default:
		m.t.Fatalf("verdict %d", v)
	}
}

// take sends o and has it acknowledged.
func (m *farModel) take(id uint16, o *Outbound) {
	if _, kept := m.kept[o.Stored]; !kept {
		m.t.Fatalf("%s comes twice", o.Message.Payload)
	}
	delete(m.kept, o.Stored)
	m.sent = append(m.sent, string(o.Message.Payload)+map[bool]string{true: " shared"}[o.Shared()])
	if _, r := m.s.Puback(id); r != Done {
		m.t.Fatalf("acknowledged: %d", r)
	}
}

func (m *farModel) send() {
	if n, ok := m.s.Next(0, nil); ok {
		m.take(n.PacketID, &n.Outbound)
	}
}

// read goes a step on with reading from the store.
func (m *farModel) read() {
	f := m.s.Far()
	switch {
	case f == nil:
	case !f.Pending:
		f.Pending = true
		if !m.s.Draw(f, m.next) && !m.fencing {
			m.fencing = true
			for i := range m.transit {
				m.fence[i] = len(m.transit[i])
			}
		}
	case m.fencing:
		if slices.Max(m.fence[:]) <= 0 {
			m.fencing = false
			f.Arrived()
		}
	case m.reading == nil:
		after, horizon, ready := f.Ready()
		if !ready {
			m.t.Fatal("not ready after the fence")
		}
		m.reading, m.piece, m.last, m.end = f, nil, after, true
		for _, at := range slices.Sorted(maps.Keys(m.kept)) {
			if at <= after || at >= horizon {
				continue
			}
			if len(m.piece) == 5 {
				m.end = false
				break
			}
			m.last = at
			if o := m.kept[at]; !o.Shared() {
				m.piece = append(m.piece, o)
			}
		}
	default:
		f.Pending = false
		m.reading = nil
		if missing := m.s.Took(f, m.piece, m.last, m.end, func(Outbound) {}); missing != 0 {
			m.t.Fatalf("%d are missing", missing)
		}
	}
}

// TestFarInOrder: whatever arrives in whatever order while parts are read, each
// message is sent once, and those of a loop in their order.
func TestFarInOrder(t *testing.T) {
	reached := 0
	for seed := range uint64(100) {
		m := &farModel{t: t, rng: rand.New(rand.NewPCG(seed, 1)), next: 1, kept: map[uint64]Outbound{}}
		m.s = New("c", &Limits{Messages: -1, Bytes: -1})
		if seed%2 == 0 { // some is there from before the process began
			n, bytes := 3+m.rng.IntN(30), 0
			for range n {
				o := out(fmt.Sprintf("old/%d", m.next), 1)
				o.Stored = m.next
				m.kept[m.next] = o
				bytes += o.Message.Size()
				m.next++
			}
			m.s.Restore(n, bytes, 1, m.next)
		}
		online := false
		for range 2000 {
			switch n := m.rng.IntN(100); {
			case n == 0:
				online = !online
				if online {
					m.s.Attach(10)
				} else {
					m.s.Detach()
				}
			case n == 1: // it moves to another loop
				m.s.StopReading()
				m.reading, m.fencing = nil, false
			case n < 30:
				m.publish()
			case n < 55:
				m.arrive()
			case n < 70 && online:
				m.send()
			default:
				if m.s.Far() != nil {
					reached++
				}
				m.read()
			}
		}
		if !online {
			m.s.Attach(10)
		}
		for i := 0; len(m.kept) > 0; i++ {
			if i == 200_000 {
				t.Fatalf("seed %d: %d messages never come", seed, len(m.kept))
			}
			m.arrive()
			m.read()
			m.send()
		}
		if n, bytes := m.s.Queued(); n != 0 || bytes != 0 || m.s.InMemory() != 0 {
			t.Fatalf("seed %d: %d messages and %d bytes at the end, %d in memory", seed, n, bytes, m.s.InMemory())
		}
		m.checkOrder(seed)
	}
	if reached == 0 {
		t.Error("nothing was ever in the store alone")
	}
}

// checkOrder: per loop, and apart by kind of subscription, in order.
func (m *farModel) checkOrder(seed uint64) {
	last := map[string]int{}
	for _, text := range m.sent {
		var loop string
		var at int
		kind := ""
		for i := range text {
			if text[i] == '/' {
				loop = text[:i]
				fmt.Sscanf(text[i+1:], "%d %s", &at, &kind)
			}
		}
		if last[loop+kind] >= at {
			m.t.Fatalf("seed %d: %s after %d", seed, text, last[loop+kind])
		}
		last[loop+kind] = at
	}
}

// TestOverflowOfTheStore: what is in the store alone counts against the bounds,
// and the policies hold.
func TestOverflowOfTheStore(t *testing.T) {
	f := func(p OverflowPolicy, offers int, want Verdict, messages int) {
		t.Helper()
		s := New("c", &Limits{Messages: 20, Bytes: -1, Policy: p})
		var v Verdict
		for i := range offers {
			o := out("m", 1)
			o.Stored = uint64(i + 1)
			if _, v, _ = s.Offer(o, false, false); v == Evicted {
				_, v, _ = s.Offer(o, false, false)
			}
		}
		if n, _ := s.Queued(); v != want || n != messages {
			t.Errorf("policy %d: the last of %d: verdict %d, %d wait; want %d, %d", p, offers, v, n, want, messages)
		}
	}
	f(DropNewest, 1, Queued, 1)
	f(DropNewest, 2, Stored, 2)
	f(DropNewest, 20, Stored, 20)
	f(DropNewest, 21, Dropped, 20)
	f(DropOldest, 21, Stored, 20)
	f(DropOldest, 22, Stored, 21) // the oldest is in the store: read, then dropped
	f(RejectPublisher, 21, Stored, 21)
	f(RejectPublisher, 41, Dropped, 40)
}
