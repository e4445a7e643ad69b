package session

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/engine/message"
)

// waiting writes the payloads that wait, in order.
func waiting(s *Session) string {
	var payloads []string
	for i := range s.queue.head.n {
		payloads = append(payloads, string(s.queue.head.at(i).Message.Payload))
	}
	return strings.Join(payloads, " ")
}

func TestOverflowByMessages(t *testing.T) {
	f := func(p OverflowPolicy, offers int, last, want string) {
		t.Helper()
		s := New("c", &Limits{Messages: 3, Bytes: -1, Policy: p})
		got := ""
		for i := 1; i <= offers; i++ {
			if got = offer(s, fmt.Sprint(i), 1); strings.HasPrefix(got, "evicted") {
				got += ", " + offer(s, fmt.Sprint(i), 1)
			}
		}
		if got != last || waiting(s) != want {
			t.Errorf("policy %d, %d offers: the last %s, waiting %s; want %s, %s", p, offers, got, waiting(s), last, want)
		}
		if full := s.Full(0); full != (s.queue.len() >= 3) {
			t.Errorf("policy %d, %d offers: Full = %v", p, offers, full)
		}
	}
	f(DropNewest, 2, "queued", "1 2")
	f(DropNewest, 3, "queued", "1 2 3")
	f(DropNewest, 4, "dropped", "1 2 3")
	f(DropOldest, 3, "queued", "1 2 3")
	f(DropOldest, 4, "evicted 1, queued", "2 3 4")
	f(DropOldest, 9, "evicted 6, queued", "7 8 9")
	f(RejectPublisher, 4, "queued", "1 2 3 4")
	f(RejectPublisher, 6, "queued", "1 2 3 4 5 6")
	f(RejectPublisher, 7, "dropped", "1 2 3 4 5 6")
}

func TestOverflowByBytes(t *testing.T) {
	size := out("1", 1).Message.Size()
	f := func(p OverflowPolicy, offers int, last, want string) {
		t.Helper()
		s := New("c", &Limits{Messages: -1, Bytes: 3 * size, Policy: p})
		got := ""
		for i := 1; i <= offers; i++ {
			got = offer(s, fmt.Sprint(i), 1)
		}
		if got != last || waiting(s) != want {
			t.Errorf("policy %d, %d offers: the last %s, waiting %s; want %s, %s", p, offers, got, waiting(s), last, want)
		}
	}
	f(DropNewest, 3, "queued", "1 2 3")
	f(DropNewest, 4, "dropped", "1 2 3")
	f(DropOldest, 4, "evicted 1", "2 3")
	f(RejectPublisher, 6, "queued", "1 2 3 4 5 6")
	f(RejectPublisher, 7, "dropped", "1 2 3 4 5 6")
}

// TestDropOldestMakesRoom: as many as it takes, and none for what can never fit.
func TestDropOldestMakesRoom(t *testing.T) {
	size := out("1", 1).Message.Size()
	s := New("c", &Limits{Messages: -1, Bytes: 4 * size, Policy: DropOldest})
	for i := 1; i <= 4; i++ {
		offer(s, fmt.Sprint(i), 1)
	}
	large := strings.Repeat("x", 2*size)
	for _, want := range []string{"evicted 1", "evicted 2", "evicted 3", "queued"} {
		if got := offer(s, large, 1); got != want {
			t.Errorf("offer of the large one: %s, want %s", got, want)
		}
	}
	if got := offer(s, large+large, 1); got != "dropped" {
		t.Errorf("larger than the bound: %s, want dropped", got)
	}
	if want := "4 " + large; waiting(s) != want {
		t.Errorf("waiting %s, want %s", waiting(s), want)
	}
}

func TestUnlimitedQueue(t *testing.T) {
	s := New("c", &Limits{Messages: -1, Bytes: -1})
	for i := range 10_000 {
		if got := offer(s, fmt.Sprint(i), 1); got != "queued" {
			t.Fatalf("offer %d: %s", i, got)
		}
	}
	if s.Full(1 << 40) {
		t.Error("an unlimited queue is full")
	}
}

// TestReferences: what the session took it holds, what it did not take is the caller's.
func TestReferences(t *testing.T) {
	pool := message.NewPool(new(message.Shared))
	held := func(m *message.Message) (panicked bool) {
		defer func() { panicked = recover() != nil }()
		m.Release(pool) // the test's
		m.Release(pool) // panics if the session had none
		return
	}
	f := func(what string, want Verdict, prepare func(s *Session)) {
		t.Helper()
		s := New("c", &Limits{Messages: 1, Bytes: -1})
		prepare(s)
		o := out("m", 1)
		o.Message.Retain()
		_, v, _ := s.Offer(o, false, true)
		if v == Dropped {
			o.Message.Release(pool)
		}
		if v != want || held(o.Message) != (v == Dropped) {
			t.Errorf("%s: verdict %d, want %d, or the references are wrong", what, v, want)
		}
	}
	f("sent", Sent, func(s *Session) { s.Attach(1) })
	f("queued", Queued, func(s *Session) {})
	f("dropped", Dropped, func(s *Session) { offer(s, "before", 1) })
}

// TestRingAgainstASlice compares the ring with the obvious thing.
func TestRingAgainstASlice(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var q ring
	var model []string
	bytes := 0
	for i := range 20_000 {
		if rng.IntN(1000) == 0 { // run empty now and then
			for q.n > 0 {
				if got := string(q.pop().Message.Payload); got != model[0] {
					t.Fatalf("step %d: popped %s, want %s", i, got, model[0])
				}
				model = model[1:]
			}
			bytes = 0
			for _, o := range q.buf {
				if o.Message != nil {
					t.Fatalf("step %d: an empty queue holds %s", i, o.Message.Payload)
				}
			}
			if q.bytes != 0 || len(q.buf) > ringKeep {
				t.Fatalf("step %d: %d bytes, %d slots in an empty queue", i, q.bytes, len(q.buf))
			}
		}
		if grow := i/3000%2 == 0; len(model) == 0 || rng.IntN(10) < 7 == grow {
			o := out(fmt.Sprint(i), 1)
			q.push(o)
			model = append(model, fmt.Sprint(i))
			bytes += o.Message.Size()
		} else {
			if got := string(q.peek().Message.Payload); got != model[0] {
				t.Fatalf("step %d: peeked %s, want %s", i, got, model[0])
			}
			o := q.pop()
			if got := string(o.Message.Payload); got != model[0] {
				t.Fatalf("step %d: popped %s, want %s", i, got, model[0])
			}
			model = model[1:]
			bytes -= o.Message.Size()
		}
		if q.n != len(model) || q.bytes != bytes {
			t.Fatalf("step %d: %d messages, %d bytes; want %d, %d", i, q.n, q.bytes, len(model), bytes)
		}
	}
}
