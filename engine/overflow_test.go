package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// dropped is one figure of what was dropped, as of now.
func (h *harness) dropped(name string) int {
	for _, l := range h.b.loops {
		l.cell.Publish(&l.counters)
	}
	sum := h.b.stats()
	for d, n := range sum.Dropped {
		if hook.DropReason(d).String() == name {
			return int(n)
		}
	}
	h.t.Fatalf("no such reason: %s", name)
	return 0
}

// queueing returns how many messages are counted as waiting in sessions.
func (h *harness) queueing() (messages, bytes int64) {
	for _, l := range h.b.loops {
		l.cell.Publish(&l.counters)
	}
	sum := h.b.stats()
	return sum.QueuedMessages, sum.QueuedBytes
}

func TestOverflowPolicies(t *testing.T) {
	covers(t, "B-rm-queue")
	f := func(o Options, qos codec.QoS, want, answers string, drops int, reason string) {
		t.Helper()
		each(t, o, func(t *testing.T, h *harness) {
			h.client(codec.V5, "sub", keepFor(60)).subscribed(filter("t", 2)).cut()
			pub := h.client(codec.V5, "pub")
			var got []string
			for i := uint16(1); i <= 6; i++ {
				pub.send(publishPacket(codec.V5, "t", fmt.Sprint(i), qos, i))
				got = append(got, strings.Fields(codesOf(pub))[2])
				pub.send(ackPacket(codec.V5, codec.PUBREL, i, 0))
				pub.all()
			}
			if s := strings.Join(got, " "); s != answers {
				t.Errorf("answers %s, want %s", s, answers)
			}
			if n := h.dropped(reason); n != drops {
				t.Errorf("%d messages are counted as %s, want %d", n, reason, drops)
			}
			h.back(codec.V5, "sub", keepFor(60)).expectServed(want)
			if n, bytes := h.queueing(); n != 0 || bytes != 0 {
				t.Errorf("%d messages, %d bytes are counted as waiting in an empty queue", n, bytes)
			}
		})
	}
	const fine, full = "00 00 00 00 00 00", "00 00 00 97 97 97"
	each3 := Options{MaxQueuedMessages: 3}
	byBytes := Options{MaxQueuedBytes: 3 * (64 + 2)} // a topic and a payload of one byte each
	for _, o := range []Options{each3, byBytes} {
		o.Overflow = DropNewest
		f(o, 1, "1 2 3", fine, 3, "queue_full")
		f(o, 2, "1 2 3", fine, 3, "queue_full")
		o.Overflow = DropOldest
		f(o, 1, "4 5 6", fine, 3, "queue_full")
		f(o, 2, "4 5 6", fine, 3, "queue_full")
	}
	each3.Overflow = RejectPublisher
	f(each3, 1, "1 2 3", full, 3, "refused")
	f(each3, 2, "1 2 3", full, 3, "refused")
	byBytes.Overflow = RejectPublisher
	f(byBytes, 1, "1 2 3 4", "00 00 00 00 97 97", 2, "refused") // full is known once a message did not fit
}

func TestRejectIsForEverybody(t *testing.T) {
	each(t, Options{MaxQueuedMessages: 2, Overflow: RejectPublisher}, func(t *testing.T, h *harness) {
		pub := h.client(codec.V5, "pub")
		publish := func(id uint16, qos codec.QoS, want string, edit ...func(*codec.Delivery)) {
			t.Helper()
			pub.send(publishPacket(codec.V5, "t", fmt.Sprint(id), qos, id, edit...))
			if got := codesOf(pub); got != want {
				t.Errorf("message %d: got %q, want %q", id, got, want)
			}
		}
		live := h.client(codec.V5, "live").subscribed(filter("#", 2))
		full := h.client(codec.V5, "full", keepFor(60)).subscribed(filter("t", 1))
		full.cut()
		publish(1, 1, "PUBACK 1 00")
		publish(2, 1, "PUBACK 2 00")
		publish(3, 1, "PUBACK 3 97")
		publish(4, 1, "PUBACK 4 97", retain)
		live.expectServed("1 2") // who has room does not get it either
		publish(0, 0, "")
		live.expectServed("0")
		old := h.client(codec.V311, "old")
		old.send(publishPacket(codec.V311, "t", "old", 1, 9))
		old.expect("PUBACK 9 00") // 3.1.1 has no other answer
		live.expectServed("")
		h.client(codec.V5, "late").subscribed(filter("t", 0)).expectServed("") // nothing was retained

		for i := range 5 { // a full session that moves to another loop stays full
			full = h.back(codec.V5, "full", keepFor(60), with(codec.ReceiveMaximum, 1))
			if i == 0 { // message 1 is in flight
				publish(5, 1, "PUBACK 5 00")
				live.expectServed("5")
			}
			publish(3, 1, "PUBACK 3 97")
			full.cut()
			publish(4, 1, "PUBACK 4 97")
		}
		full = h.back(codec.V5, "full", keepFor(60))
		if got := strings.Join(full.serve(), " "); got != "1 2 5" {
			t.Fatalf("got %q", got)
		}
		publish(6, 1, "PUBACK 6 00")
		full.expectServed("6")
		live.expectServed("6")
		full.cut()
		publish(7, 1, "PUBACK 7 00")
		publish(8, 1, "PUBACK 8 00")
		publish(9, 1, "PUBACK 9 97")
		h.client(codec.V5, "full").send(disconnectPacket(codec.V5, 0)) // the session ends: nobody is full
		publish(10, 1, "PUBACK 10 00")
		if n := h.b.full.count.Load(); n != 0 {
			t.Errorf("%d sessions are still taken for full", n)
		}
	})
}

// A publisher that is ahead of the news gets as much room again; what is
// beyond that is dropped and counted.
func TestRejectAcrossLoopsInOneTurn(t *testing.T) {
	h := newHarness(t, 2, Options{MaxQueuedMessages: 3, Overflow: RejectPublisher})
	sub := h.dialOn(1, codec.V5)
	sub.send(connectPacket(codec.V5, "sub", true, keepFor(60)))
	sub.expectConnack(false)
	sub.subscribed(filter("t", 1)).cut()
	pub := h.dialOn(0, codec.V5)
	pub.send(connectPacket(codec.V5, "pub", true))
	pub.expectConnack(false)
	for id := range uint16(8) {
		pub.post(publishPacket(codec.V5, "t", fmt.Sprint(id+1), 1, id+1))
	}
	h.run()
	pub.send(publishPacket(codec.V5, "t", "9", 1, 9))
	lines := strings.Split(codesOf(pub), ",")
	if len(lines) != 9 || lines[7] != "PUBACK 8 00" || lines[8] != "PUBACK 9 97" {
		t.Errorf("got %v", lines)
	}
	h.back(codec.V5, "sub").expectServed("1 2 3 4 5 6")
	if got := h.dropped("queue_full") + 10*h.dropped("refused"); got != 2+10*1 {
		t.Errorf("drops %d", got)
	}
}

// A shared subscription is not full while one of its members is not.
func TestRejectAndSharedSubscriptions(t *testing.T) {
	each(t, Options{MaxQueuedMessages: 2, Overflow: RejectPublisher}, func(t *testing.T, h *harness) {
		h.client(codec.V5, "away", keepFor(60)).subscribed(filter("$share/g/t", 1), filter("u", 1)).cut()
		here := h.client(codec.V5, "here").subscribed(filter("$share/g/t", 1))
		pub := h.client(codec.V5, "pub")
		pub.numbers("u", 1, 1, 2)
		for id := range uint16(5) {
			pub.send(publishPacket(codec.V5, "t", fmt.Sprint(id), 1, id+1))
			if got, want := codesOf(pub), fmt.Sprintf("PUBACK %d 00", id+1); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		here.expectServed("0 1 2 3 4")
	})
}

// TestRetainedIsPaced subscribes to more than a stalled reader, or a small
// Receive Maximum, lets through.
func TestRetainedIsPaced(t *testing.T) {
	const count, size, bound = 500, 1000, 32 << 10
	each(t, Options{OutboundBytes: bound, MaxQueuedMessages: 10}, func(t *testing.T, h *harness) {
		for i := range count {
			h.keep(fmt.Sprintf("a/%03d", i), strings.Repeat("x", size))
		}
		f := func(qos codec.QoS, edit ...func(*codec.Connect)) {
			t.Helper()
			p := h.client(codec.V5, "p", append(edit, keepFor(60))...)
			p.stall()
			p.send(subscribePacket(codec.V5, 1, filter("a/#", qos)))
			if p.held > bound+flushBytes+2*size {
				t.Errorf("QoS %d: %d bytes wait for a client that does not read", qos, p.held)
			}
			if n, _ := h.queueing(); n > 10 {
				t.Errorf("QoS %d: %d messages wait in the session", qos, n)
			}
			h.advance(time.Second)
			held := p.held
			h.advance(time.Second)
			if p.held != held {
				t.Errorf("QoS %d: output grows from %d to %d", qos, held, p.held)
			}
			p.resume()
			got := 0
			for range count {
				got += len(p.serve())
				h.advance(tick)
				if got == count {
					break
				}
			}
			if got += len(p.serve()); got != count {
				t.Errorf("QoS %d: %d retained messages, want %d", qos, got, count)
			}
			if n := h.dropped("queue_full"); n != 0 {
				t.Errorf("QoS %d: %d were dropped", qos, n)
			}
			p.send(disconnectPacket(codec.V5, 0))
			h.client(codec.V5, "p").cut()
		}
		f(0)
		f(1)
		f(2, with(codec.ReceiveMaximum, 3))
	})
}

// The replay of retained messages goes on where it was when the session comes
// back on another loop, and ends with the subscription.
func TestRetainedGoesOnAfterResume(t *testing.T) {
	const count = 60
	each(t, Options{}, func(t *testing.T, h *harness) {
		for i := range count {
			h.keep(fmt.Sprintf("a/%03d", i), fmt.Sprint(i))
		}
		edit := []func(*codec.Connect){keepFor(60), with(codec.ReceiveMaximum, 4)}
		p := h.client(codec.V5, "p", edit...)
		p.send(subscribePacket(codec.V5, 1, filter("a/#", 1)))
		seen := make(map[int]int)
		read := func() (ids []uint16) {
			for _, s := range p.all() {
				var id uint16
				var n, d int
				if k, _ := fmt.Sscanf(s, `PUBLISH q1 r1 d%d id=%d "a/%d"`, &d, &id, &n); k == 3 {
					seen[n] += 1 - d
					ids = append(ids, id)
				}
			}
			return ids
		}
		for i := range 10 { // each time four more are sent, and acknowledged after the next resume
			ids := read()
			if len(ids) == 0 || len(seen) > 4*(i+1) {
				t.Fatalf("round %d: %d deliveries, %d different ones so far", i, len(ids), len(seen))
			}
			p.cut()
			p = h.back(codec.V5, "p", edit...)
			for _, id := range ids {
				p.send(ackPacket(codec.V5, codec.PUBACK, id, 0))
			}
		}
		for ids := read(); len(ids) > 0; ids = read() {
			for _, id := range ids {
				p.send(ackPacket(codec.V5, codec.PUBACK, id, 0))
			}
		}
		for i := range count {
			if seen[i] != 1 {
				t.Errorf("retained message %d came %d times", i, seen[i])
			}
		}
		q := h.client(codec.V5, "q", with(codec.ReceiveMaximum, 4))
		q.send(subscribePacket(codec.V5, 1, filter("a/#", 1)), unsubscribePacket(codec.V5, 2, "a/#"))
		if got := len(q.serve()); got != 4 {
			t.Errorf("%d retained messages after UNSUBSCRIBE, want the 4 that were sent before it", got)
		}
	})
}

// What waits for a loop that is behind is bounded: QoS 0 is dropped, QoS 1 and
// 2 are refused, and the other loops go on.
func TestMailboxIsBounded(t *testing.T) {
	const bound, size = 10_000, 500
	h := newHarness(t, 3, Options{MailboxBytes: bound, MaxQueuedMessages: Unlimited, MaxQueuedBytes: Unlimited})
	on := func(loop int, id string, edit ...func(*codec.Connect)) *peer {
		p := h.dialOn(loop, codec.V5)
		p.send(connectPacket(codec.V5, id, true, edit...))
		p.expectConnack(false)
		return p
	}
	pub, slow, other := on(0, "pub"), on(1, "slow"), on(2, "other")
	slow.subscribed(filter("zero", 0), filter("one", 1), filter("$share/g/group", 0))
	other.subscribed(filter("other", 1))
	payload := strings.Repeat("x", size)
	waiting := &h.b.loops[1].mailbox
	for range 100 { // loop 1 does not run meanwhile
		pub.post(publishPacket(codec.V5, "zero", payload, 0, 0), publishPacket(codec.V5, "group", payload, 0, 0))
	}
	if n := waiting.waiting(); n < bound || n > bound+3*(size+200) {
		t.Errorf("%d bytes of QoS 0 wait, bound %d", n, bound)
	}
	if n := h.dropped("mailbox_full") + waiting.count(); n != 200 {
		t.Errorf("%d messages are dropped or waiting, want 200", n)
	}
	acked, refused := 0, 0
	for id := range uint16(200) {
		pub.post(publishPacket(codec.V5, "one", payload, 1, id+1))
		switch got := codesOf(pub); got {
		case fmt.Sprintf("PUBACK %d 00", id+1):
			acked++
		case fmt.Sprintf("PUBACK %d 97", id+1):
			refused++
		default:
			t.Fatalf("got %s", got)
		}
	}
	if n := waiting.waiting(); n > 4*bound+3*(size+200) || refused == 0 || acked == 0 {
		t.Errorf("%d bytes wait, %d acknowledged, %d refused", n, acked, refused)
	}
	pub.post(publishPacket(codec.V5, "other", "passes", 1, 500))
	if got := codesOf(pub); got != "PUBACK 500 00" {
		t.Errorf("to a loop that is not behind: got %s", got)
	}
	h.run()
	other.expectServed("passes")
	var zero, one int
	for _, s := range slow.all() {
		zero += bit(strings.HasPrefix(s, "PUBLISH q0"))
		one += bit(strings.HasPrefix(s, "PUBLISH q1"))
	}
	if zero+h.dropped("mailbox_full") != 200 || one != min(acked, defaultReceive) {
		t.Errorf("%d and %d deliveries of QoS 0 and 1", zero, one)
	}
	pub.send(publishPacket(codec.V5, "zero", "again", 0, 0)) // taken again: the turn asks first
	pub.send(publishPacket(codec.V5, "zero", "again", 0, 0), publishPacket(codec.V5, "one", "again", 1, 1))
	if got := codesOf(pub); got != "PUBACK 1 00" {
		t.Errorf("after the loop caught up: got %s", got)
	}
	if got := strings.Join(slow.all(), " "); !strings.Contains(got, "again") {
		t.Errorf("after the loop caught up: got %s", got)
	}
}

// A full session that moves for a connection which is lost on the way is full
// at its new place.
func TestRejectAfterAMoveForNobody(t *testing.T) {
	h := newHarness(t, 2, Options{MaxQueuedMessages: 2, Overflow: RejectPublisher})
	full := h.dialOn(0, codec.V5)
	full.send(connectPacket(codec.V5, "full", true, keepFor(60)))
	full.expectConnack(false)
	full.subscribed(filter("t", 1)).cut()
	pub := h.client(codec.V5, "pub")
	pub.numbers("t", 1, 1, 2)
	lost := h.dialOn(1, codec.V5)
	lost.post(connectPacket(codec.V5, "full", false, keepFor(60)))
	lost.cut()
	pub.send(publishPacket(codec.V5, "t", "3", 1, 3))
	if got := codesOf(pub); got != "PUBACK 3 97" {
		t.Errorf("got %s", got)
	}
}

// Expired retained messages leave the index and the accounts, found by a
// subscriber or not.
func TestRetainedIsForgottenWhenItExpires(t *testing.T) {
	each(t, Options{MaxRetainedMessages: 600}, func(t *testing.T, h *harness) {
		pub := h.client(codec.V5, "pub")
		for i := range 600 {
			e := expiry(2)
			if i == 300 {
				e = func(*codec.Delivery) {}
			}
			pub.post(publishPacket(codec.V5, fmt.Sprint("a/", i), "x", 0, 0, retain, e))
		}
		pub.post(publishPacket(codec.V5, "$other", "x", 0, 0, retain, expiry(2))) // one too many
		h.run()
		if n := h.b.retained.messages(); n != 600 {
			t.Fatalf("%d are retained, want 600", n)
		}
		h.advance(5 * time.Second)
		s := &h.b.retained
		if n, bytes, brief := s.messages(), s.bytes.Load(), s.brief.Load(); n != 1 || bytes != 5+1+64 || brief != 0 {
			t.Errorf("%d messages, %d bytes, %d to expire are left, want one that does not expire", n, bytes, brief)
		}
		pub.send(publishPacket(codec.V5, "$other", "x", 0, 0, retain, expiry(2)), publishPacket(codec.V5, "a/1", "x", 0, 0, retain, expiry(2)),
			publishPacket(codec.V5, "a/1", "stays", 0, 0, retain))
		h.advance(5 * time.Second)
		h.client(codec.V5, "sub").subscribed(filter("$other", 0), filter("a/1", 0)).expectServed("stays")
		if n, brief := s.messages(), s.brief.Load(); n != 2 || brief != 0 {
			t.Errorf("%d messages, %d to expire, want two that do not", n, brief)
		}
	})
}
