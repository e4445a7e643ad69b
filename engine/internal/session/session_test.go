package session

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
	"github.com/wheelmq/wheelmq/engine/message"
)

// bounds are limits that no test here reaches.
var bounds = &Limits{Messages: 1000, Bytes: 1 << 20}

// out is a message with the given payload.
func out(payload string, qos codec.QoS) Outbound {
	return Outbound{Message: message.NewLasting([]byte("t"), []byte(payload), nil), QoS: qos}
}

// attached is a session with a connection.
func attached(limits *Limits, quota uint16) *Session {
	s := New("c", limits)
	s.Attach(quota)
	return s
}

// offer offers a message and writes what came of it.
func offer(s *Session, payload string, qos codec.QoS) string {
	id, v, old := s.Offer(out(payload, qos), false, true)
	switch v {
	case Sent:
		return fmt.Sprintf("sent %d", id)
	case Queued:
		return "queued"
	case Dropped:
		return "dropped"
	case Evicted:
		return "evicted " + string(old.Message.Payload)
	default:
		return "no verdict"
	}
}

// next writes what the session sends next, everything it has.
func next(s *Session, now clock.Time) string {
	var lines []string
	for {
		n, ok := s.Next(now, func(o Outbound) { lines = append(lines, "drop "+string(o.Message.Payload)) })
		if !ok {
			return strings.Join(lines, ", ")
		}
		lines = append(lines, sending(n))
	}
}

func sending(n Send) string {
	switch {
	case n.Message == nil:
		return fmt.Sprintf("pubrel %d", n.PacketID)
	case n.Dup:
		return fmt.Sprintf("again %d %s", n.PacketID, n.Message.Payload)
	default:
		return fmt.Sprintf("first %d %s", n.PacketID, n.Message.Payload)
	}
}

func result(o Outbound, r Result) string {
	s := []string{"done", "continue", "unknown", "wrong kind"}[r]
	if o.Message != nil {
		s += " " + string(o.Message.Payload)
	}
	return s
}

func TestNothingIsSentWithoutAConnection(t *testing.T) {
	s := New("c", bounds)
	if got := offer(s, "a", 1); got != "queued" {
		t.Errorf("offer without a connection: %s", got)
	}
	if got := next(s, 0); got != "" {
		t.Errorf("sent without a connection: %s", got)
	}
	if s.CanSendNow() {
		t.Error("CanSendNow without a connection")
	}
	if _, ok := s.SendNow(out("b", 1)); ok {
		t.Error("SendNow without a connection")
	}
	s.Attach(10)
	if got := next(s, 0); got != "first 1 a" {
		t.Errorf("after Attach: %s", got)
	}
	if got := offer(s, "b", 1); got != "sent 2" {
		t.Errorf("offer with a connection: %s", got)
	}
	s.Detach()
	if got := offer(s, "c", 1); got != "queued" {
		t.Errorf("offer after Detach: %s", got)
	}
}

// TestOutboundStates walks every state of a delivery through every acknowledgement.
func TestOutboundStates(t *testing.T) {
	f := func(qos codec.QoS, before []string, event, want, end string) {
		t.Helper()
		s := attached(bounds, 10)
		offer(s, "m", qos)
		ack := func(event string) string {
			switch event {
			case "puback":
				return result(s.Puback(1))
			case "pubrec":
				return result(s.Pubrec(1, codec.Success))
			case "pubrec 10":
				return result(s.Pubrec(1, codec.NoMatchingSubscribers))
			case "pubrec 80":
				return result(s.Pubrec(1, codec.UnspecifiedError))
			case "pubcomp":
				return result(s.Pubcomp(1))
			}
			t.Fatalf("no event %s", event)
			return ""
		}
		for _, e := range before {
			ack(e)
		}
		if got := ack(event); got != want {
			t.Errorf("QoS %d, after %q: %s gives %s, want %s", qos, before, event, got, want)
		}
		s.Detach()
		s.Attach(10)
		if got := next(s, 0); got != end {
			t.Errorf("QoS %d, after %q and %s: on return %q, want %q", qos, before, event, got, end)
		}
	}
	f(1, nil, "puback", "done m", "")
	f(1, nil, "pubrec", "wrong kind", "again 1 m")
	f(1, nil, "pubrec 80", "wrong kind", "again 1 m")
	f(1, nil, "pubcomp", "wrong kind", "again 1 m")
	f(1, []string{"puback"}, "puback", "unknown", "")
	f(2, nil, "puback", "wrong kind", "again 1 m")
	f(2, nil, "pubcomp", "wrong kind", "again 1 m")
	f(2, nil, "pubrec", "continue m", "pubrel 1")
	f(2, nil, "pubrec 10", "continue m", "pubrel 1")
	f(2, nil, "pubrec 80", "done m", "")
	f(2, []string{"pubrec"}, "pubrec", "continue", "pubrel 1")
	f(2, []string{"pubrec"}, "pubrec 80", "continue", "pubrel 1")
	f(2, []string{"pubrec"}, "puback", "wrong kind", "pubrel 1")
	f(2, []string{"pubrec"}, "pubcomp", "done", "")
	f(2, []string{"pubrec", "pubcomp"}, "pubcomp", "unknown", "")
	f(2, []string{"pubrec", "pubcomp"}, "pubrec", "unknown", "")
	f(2, []string{"pubrec 80"}, "pubrec", "unknown", "")
}

func TestAcknowledgementsOfNothing(t *testing.T) {
	s := attached(bounds, 1)
	for _, id := range []uint16{0, 1, 65535} {
		if got := result(s.Puback(id)) + result(s.Pubrec(id, 0)) + result(s.Pubcomp(id)); got != "unknownunknownunknown" {
			t.Errorf("identifier %d of an idle session: %s", id, got)
		}
	}
	if s.Quota() != 1 {
		t.Errorf("quota %d, want 1", s.Quota())
	}
}

func TestQuota(t *testing.T) {
	s := attached(bounds, 2)
	f := func(want int) {
		t.Helper()
		if s.Quota() != want {
			t.Errorf("quota %d, want %d", s.Quota(), want)
		}
	}
	f(2)
	offer(s, "a", 1)
	offer(s, "b", 2)
	f(0)
	if got := offer(s, "c", 2); got != "queued" || !s.Blocked() {
		t.Errorf("offer without quota: %s, blocked %v", got, s.Blocked())
	}
	s.Pubrec(2, codec.Success) // gives nothing back
	f(0)
	s.Pubcomp(2)
	f(1)
	if got := next(s, 0); got != "first 3 c" {
		t.Errorf("with quota for one: %s", got)
	}
	f(0)
	s.Pubrec(3, codec.QuotaExceeded)
	f(1)
	s.Puback(1)
	f(2)
	s.Puback(1)
	s.Pubcomp(3)
	f(2) // never above its start
	offer(s, "d", 1)
	s.Discard(4)
	f(2)
	if s.Blocked() {
		t.Error("blocked with quota and nothing waiting")
	}
}

func TestHeldMessagesWait(t *testing.T) {
	s := attached(bounds, 5)
	if _, v, _ := s.Offer(out("a", 1), true, true); v != Queued {
		t.Errorf("held: verdict %d, want %d", v, Queued)
	}
	if got := offer(s, "b", 1); got != "queued" { // nothing overtakes
		t.Errorf("behind a held one: %s", got)
	}
	if id, ok := s.SendNow(out("retained", 1)); id != 1 || !ok { // but this does
		t.Errorf("SendNow: %d, %v", id, ok)
	}
	if got := next(s, 0); got != "first 2 a, first 3 b" {
		t.Errorf("let out: %s", got)
	}
}

func TestExpiredMessagesAreHandedBack(t *testing.T) {
	s := attached(bounds, 1)
	at := func(payload string, expires clock.Time) Outbound {
		o := out(payload, 1)
		o.Message.Expires = expires
		return o
	}
	s.Offer(at("sent", 10), false, true)
	s.Offer(at("a", 10), false, true)
	s.Offer(at("b", 11), false, true)
	s.Offer(at("c", 0), false, true)
	s.Offer(at("d", 5), false, true)
	if got := next(s, 20); got != "" { // without quota nothing is looked at
		t.Errorf("without quota: %s", got)
	}
	s.Puback(1)
	if got := next(s, 10); got != "drop a, first 2 b" {
		t.Errorf("at 10: %s", got)
	}
	s.Detach()
	s.Attach(3)
	if got := next(s, 30); got != "again 2 b, first 3 c, drop d" { // begun deliveries do not expire
		t.Errorf("at 30: %s", got)
	}
	if n, bytes := s.Queued(); n != 0 || bytes != 0 {
		t.Errorf("%d messages, %d bytes left", n, bytes)
	}
}

func TestReceive(t *testing.T) {
	s := attached(bounds, 1)
	f := func(id, most uint16, isNew, within bool) {
		t.Helper()
		if n, w := s.Receive(id, most); n != isNew || w != within {
			t.Errorf("Receive(%d, %d) = %v, %v, want %v, %v", id, most, n, w, isNew, within)
		}
	}
	f(1, 2, true, true)
	f(1, 2, false, true)
	f(9, 2, true, true)
	f(10, 2, false, false)
	f(9, 2, false, true) // a repetition is not one more
	f(10, 0, true, true) // no bound
	if !s.Forget(10) || s.Forget(10) {
		t.Error("Forget does not tell whether the identifier was open")
	}
	if !s.Forget(1) {
		t.Error("Forget(1) = false")
	}
	f(1, 2, true, true) // new again
	s.Detach()
	s.Attach(1)
	f(1, 2, false, true) // outlives the connection
	f(2, 2, true, true)  // and does not count against the new one
	f(3, 2, true, true)
	f(4, 2, false, false)
}

func TestDrainGivesEverythingOnce(t *testing.T) {
	s := attached(bounds, 3)
	for _, p := range []string{"a", "b", "c", "d", "e"} {
		offer(s, p, codec.QoS(1+len(p)%2))
	}
	s.Pubrec(2, codec.Success) // its message is gone
	s.Detach()
	var got []string
	s.Drain(func(o Outbound, sent bool) { got = append(got, fmt.Sprint(string(o.Message.Payload), sent)) })
	if want := "[atrue ctrue dfalse efalse]"; fmt.Sprint(got) != want {
		t.Errorf("drained %v, want %s", got, want)
	}
	s.Drain(func(o Outbound, sent bool) { t.Errorf("drained twice: %s", o.Message.Payload) })
	if n, bytes := s.Queued(); n != 0 || bytes != 0 || s.InFlight() != 0 {
		t.Errorf("%d queued, %d bytes, %d in flight after Drain", n, bytes, s.InFlight())
	}
}

func TestIdleSessionsShareTheirFlow(t *testing.T) {
	s := attached(bounds, 10)
	s.Receive(1, 0)
	offer(s, "a", 2)
	if s.flow == &noFlow {
		t.Fatal("a busy session has no flow of its own")
	}
	s.Detach()
	if s.flow == &noFlow {
		t.Fatal("the flow went while it was needed")
	}
	s.Attach(10)
	next(s, 0)
	s.Pubrec(1, codec.Success)
	s.Pubcomp(1)
	s.Detach()
	if s.flow == &noFlow {
		t.Fatal("the flow went with an identifier open")
	}
	s.Forget(1)
	s.Attach(10)
	s.Detach()
	if s.flow != &noFlow {
		t.Error("an idle session keeps a flow")
	}
	s.Attach(1)
	s.Puback(1)
	s.Pubrec(1, 0)
	s.Forget(1)
	next(s, 0)
	s.Drain(nil)
	s.Detach()
	if noFlow.window.Len() != 0 || noFlow.received.Len() != 0 || noFlow.queue.len() != 0 || noFlow.resend != nil {
		t.Error("the shared flow was written")
	}
}
