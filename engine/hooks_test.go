package engine

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// recorder is every observer, and writes down what it is told.
type recorder struct{ lines []string }

func (r *recorder) note(format string, a ...any) {
	r.lines = append(r.lines, fmt.Sprintf(format, a...))
}

// take returns what was told since the last call.
func (r *recorder) take() []string {
	lines := r.lines
	r.lines = nil
	return lines
}

func (r *recorder) Started()                               { r.note("started") }
func (r *recorder) Stopped()                               { r.note("stopped") }
func (r *recorder) ListenerOpened(name string, _ net.Addr) { r.note("listener %s opened", name) }
func (r *recorder) ListenerClosed(name string, _ net.Addr) { r.note("listener %s closed", name) }
func (r *recorder) ConnectionAccepted(c hook.Client)       { r.note("accepted %s", c.Listener) }
func (r *recorder) NotConsumed(c hook.Client, p hook.Publication) {
	r.note("nobody wants %s of %s", p.Topic, c.ClientID)
}
func (r *recorder) Unsubscribed(c hook.Client, f string)          { r.note("%s unsubscribed %s", c.ClientID, f) }
func (r *recorder) SessionChanged(id string, e hook.SessionEvent) { r.note("session %s %v", id, e) }
func (r *recorder) Dropped(d hook.Drop)                           { r.note("dropped %s for %q: %v", d.Topic, d.To, d.Why) }
func (r *recorder) WillPublished(c hook.Client, p hook.Publication) {
	r.note("will of %s to %s", c.ClientID, p.Topic)
}
func (r *recorder) ConnectionRefused(c hook.Client, code codec.ReasonCode, reason string) {
	r.note("refused %q %02X %s", c.ClientID, byte(code), reason)
}
func (r *recorder) Connected(c hook.Client, e hook.Connected) {
	r.note("connected %s present %v expiry %d", c.ClientID, e.SessionPresent, e.SessionExpiry)
}
func (r *recorder) Disconnected(c hook.Client, e hook.Disconnected) {
	r.note("disconnected %s by %v %02X will %v ended %v after %v", c.ClientID, e.By, byte(e.Code), e.Will, e.Ended, e.Connected)
}
func (r *recorder) Subscribed(c hook.Client, s hook.Subscription) {
	r.note("%s subscribed %s q%d id %d", c.ClientID, s.Filter, s.QoS, s.ID)
}
func (r *recorder) Published(c hook.Client, p hook.Publication, code codec.ReasonCode) {
	r.note("%s published %s %q q%d r%v from %s: %02X", c.ClientID, p.Topic, p.Payload, p.QoS, p.Retain, p.From, byte(code))
}
func (r *recorder) Delivered(to hook.Client, d hook.Delivery, id uint16) {
	r.note("delivered %s %q q%d id %d from %q to %s", d.Topic, d.Payload, d.QoS, id, d.From, to.ClientID)
}
func (r *recorder) Acknowledged(c hook.Client, id uint16, qos codec.QoS) {
	r.note("%s acknowledged %d q%d", c.ClientID, id, qos)
}
func (r *recorder) RetainedChanged(name string, p *hook.Publication) {
	if p == nil {
		r.note("retained %s gone", name)
		return
	}
	r.note("retained %s %q from %s", name, p.Payload, p.From)
}

// expect compares what was told since the last call.
func (r *recorder) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := r.take(); !slices.Equal(got, want) {
		t.Errorf("hooks were told\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestObservers(t *testing.T) {
	r := &recorder{}
	each(t, Options{Hooks: []any{r}}, func(t *testing.T, h *harness) {
		r.take()
		sub := h.dial(codec.V5)
		sub.send(connectPacket(codec.V5, "sub", true, keepFor(60)), subscribePacket(codec.V5, 1, filter("a", 1), filter("b", 2)))
		r.expect(t, "accepted harness:1883", "session sub created", "connected sub present false expiry 60",
			"sub subscribed a q1 id 0", "sub subscribed b q2 id 0")
		pub := h.client(codec.V5, "pub", willOf(codec.Will{Topic: []byte("b")}))
		r.expect(t, "accepted harness:1883", "session pub created", "connected pub present false expiry 0")

		pub.send(publishPacket(codec.V5, "a", "x", 1, 7))
		got := r.take() // on two loops the delivery comes after
		slices.Sort(got)
		if want := []string{`delivered a "x" q1 id 1 from "pub" to sub`, `pub published a "x" q1 rfalse from pub: 00`}; !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		sub.send(ackPacket(codec.V5, codec.PUBACK, 1, 0))
		r.expect(t, "sub acknowledged 1 q1")
		pub.send(publishPacket(codec.V5, "b", "y", 2, 8))
		r.take()
		sub.send(ackPacket(codec.V5, codec.PUBREC, 2, 0))
		r.expect(t)
		sub.send(ackPacket(codec.V5, codec.PUBCOMP, 2, 0))
		r.expect(t, "sub acknowledged 2 q2")

		pub.send(publishPacket(codec.V5, "nobody", "z", 0, 0))
		r.expect(t, "nobody wants nobody of pub", `pub published nobody "z" q0 rfalse from pub: 10`)
		pub.send(publishPacket(codec.V5, "kept", "1", 0, 0, retain))
		r.expect(t, `retained kept "1" from pub`, "nobody wants kept of pub", `pub published kept "1" q0 rtrue from pub: 10`)
		pub.send(publishPacket(codec.V5, "kept", "", 0, 0, retain))
		r.expect(t, `retained kept gone`, "nobody wants kept of pub", `pub published kept "" q0 rtrue from pub: 10`)
		sub.send(unsubscribePacket(codec.V5, 3, "a"))
		r.expect(t, "sub unsubscribed a")

		h.advance(2 * time.Second)
		sub.send(disconnectPacket(codec.V5, 0))
		r.expect(t, "disconnected sub by client 00 will false ended false after 2s")
		pub.cut() // its will finds sub away
		got = r.take()
		slices.Sort(got)
		if want := []string{"disconnected pub by network 00 will true ended true after 2s", `dropped b for "sub": qos0_offline`,
			"session pub deleted", "will of pub to b"}; !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}

func TestObserversOfSessions(t *testing.T) {
	r := &recorder{}
	each(t, Options{Hooks: []any{r}}, func(t *testing.T, h *harness) {
		r.take()
		first := h.client(codec.V5, "p", keepFor(5))
		r.take()
		second := h.back(codec.V5, "p", keepFor(5))
		first.expectEnd("DISCONNECT 8E")
		r.expect(t, "accepted harness:1883", "session p taken over", "disconnected p by takeover 8E will false ended false after 0s",
			"connected p present true expiry 5")
		second.cut()
		r.take()
		h.advance(6 * time.Second)
		r.expect(t, "session p expired", "session p deleted")

		h.client(codec.V5, "q", keepFor(5))
		r.take()
		h.client(codec.V5, "q")
		r.expect(t, "accepted harness:1883", "session q taken over", "disconnected q by takeover 8E will false ended true after 0s",
			"session q deleted", "session q created", "connected q present false expiry 0")
		bad := h.dial(codec.V5)
		bad.send([]byte{0x10, 0x00})
		r.expect(t, "accepted harness:1883", `refused "" 81 the packet ends inside a field`)
		faulty := h.client(codec.V5, "faulty")
		r.take()
		faulty.hex("F0 00 F0 00") // AUTH without a method
		r.expect(t, "disconnected faulty by broker 82 will false ended true after 0s", "session faulty deleted")
	})
}

func TestObserverOfRefusals(t *testing.T) {
	r := &recorder{}
	h := newHarness(t, 1, Options{Hooks: []any{r, faultyAuthenticator{}}})
	p := h.dial(codec.V5)
	p.send(connectPacket(codec.V5, "p", true))
	r.expect(t, "accepted harness:1883", `refused "" 8A not let in`)
}

func TestDropReasonNames(t *testing.T) {
	seen := map[string]bool{"": true}
	for d := range hook.NumDropReasons {
		if seen[d.String()] {
			t.Errorf("reason %d has no name of its own: %q", d, d)
		}
		seen[d.String()] = true
	}
}

// interceptor is every interceptor; nil fields do nothing.
type interceptor struct {
	publish     func(hook.Client, *hook.Publication) hook.Outcome
	subscribe   func(*hook.Subscription) codec.ReasonCode
	unsubscribe func(string) (string, codec.ReasonCode)
	deliver     func(hook.Client, *hook.Delivery) bool
	packet      func(hook.Client, hook.Packet) bool
}

func (i *interceptor) InterceptPublish(c hook.Client, p *hook.Publication) (o hook.Outcome) {
	if i.publish != nil {
		o = i.publish(c, p)
	}
	return o
}
func (i *interceptor) InterceptSubscribe(_ hook.Client, s *hook.Subscription) (c codec.ReasonCode) {
	if i.subscribe != nil {
		c = i.subscribe(s)
	}
	return c
}
func (i *interceptor) InterceptUnsubscribe(_ hook.Client, f string) (string, codec.ReasonCode) {
	if i.unsubscribe != nil {
		return i.unsubscribe(f)
	}
	return f, codec.Success
}
func (i *interceptor) InterceptDelivery(c hook.Client, d *hook.Delivery) bool {
	return i.deliver == nil || i.deliver(c, d)
}
func (i *interceptor) InterceptPacket(c hook.Client, p hook.Packet) bool {
	return i.packet == nil || i.packet(c, p)
}

func TestInterceptPublish(t *testing.T) {
	i := &interceptor{publish: func(c hook.Client, p *hook.Publication) hook.Outcome {
		switch string(p.Topic) {
		case "change":
			p.Topic, p.Payload, p.QoS, p.Retain = []byte("changed"), []byte(c.ClientID+"/"+string(p.Payload)), 0, true
			p.HasExpiry, p.Expiry = true, 9
			p.Properties = codec.AppendUserProperty(nil, "by", "hook")
		case "drop":
			return hook.Outcome{Stop: true}
		case "refuse":
			return hook.Outcome{Stop: true, Code: codec.QuotaExceeded, Reason: "enough"}
		case "close":
			return hook.Outcome{Close: true, Code: codec.NotAuthorized}
		case "wrong":
			p.Topic = []byte("a/#")
		}
		return hook.Outcome{}
	}}
	each(t, Options{Hooks: []any{i}}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub").subscribed(filter("#", 2))
		pub := h.client(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "change", "x", 1, 1))
		pub.expect("PUBACK 1 00")
		sub.expect(`PUBLISH q0 r0 d0 "changed" "pub/x" expiry=9 {UserProperty="by":"hook"}`)
		late := h.client(codec.V5, "late")
		late.send(subscribePacket(codec.V5, 1, filter("changed", 0)))
		late.expect("SUBACK 1 [00]", `PUBLISH q0 r1 d0 "changed" "pub/x" expiry=9 {UserProperty="by":"hook"}`)
		pub.send(publishPacket(codec.V5, "drop", "x", 1, 2), publishPacket(codec.V5, "refuse", "x", 1, 3),
			publishPacket(codec.V5, "drop", "x", 2, 4), publishPacket(codec.V5, "refuse", "x", 2, 5),
			publishPacket(codec.V5, "wrong", "x", 1, 6))
		pub.expect("PUBACK 2 00", `PUBACK 3 97 {ReasonString="enough"}`, "PUBREC 4 00", `PUBREC 5 97 {ReasonString="enough"}`,
			`PUBACK 6 83 {ReasonString="the message was changed to one that is not valid"}`)
		pub.send(ackPacket(codec.V5, codec.PUBREL, 4, 0), ackPacket(codec.V5, codec.PUBREL, 5, 0))
		pub.expect("PUBCOMP 4 00", "PUBCOMP 5 92")
		pub.send(publishPacket(codec.V5, "close", "x", 0, 0))
		pub.expectEnd("DISCONNECT 87")
		old := h.client(codec.V311, "old")
		old.send(publishPacket(codec.V311, "refuse", "x", 2, 5), ackPacket(codec.V311, codec.PUBREL, 5, 0))
		old.expect("PUBREC 5 00", "PUBCOMP 5 00")
		dying := h.client(codec.V5, "dying", willOf(codec.Will{Topic: []byte("drop"), Payload: []byte("w")}))
		dying.cut()
		sub.expect()
	})
}

func TestInterceptSubscribe(t *testing.T) {
	i := &interceptor{
		subscribe: func(s *hook.Subscription) codec.ReasonCode {
			if s.Filter == "no" {
				return codec.NotAuthorized
			}
			s.Filter, s.QoS = "tenant/"+s.Filter, 0
			return codec.Success
		},
		unsubscribe: func(f string) (string, codec.ReasonCode) {
			if f == "no" {
				return f, codec.NotAuthorized
			}
			return "tenant/" + f, codec.Success
		},
	}
	each(t, Options{Hooks: []any{i}}, func(t *testing.T, h *harness) {
		p := h.client(codec.V5, "p")
		p.send(subscribePacket(codec.V5, 1, filter("a", 2), filter("no", 1)))
		p.expect("SUBACK 1 [00 87]")
		p.send(publishPacket(codec.V5, "tenant/a", "x", 1, 1), publishPacket(codec.V5, "a", "y", 0, 0))
		p.expect(`PUBLISH q0 r0 d0 "tenant/a" "x"`, "PUBACK 1 00")
		p.send(unsubscribePacket(codec.V5, 2, "a", "no"))
		p.expect("UNSUBACK 2 [00 87]")
		old := h.client(codec.V31, "old")
		old.send(subscribePacket(codec.V31, 1, filter("a", 0), filter("no", 0)))
		old.expectEnd() // 3.1 has no word for a refusal
	})
}

func TestInterceptDelivery(t *testing.T) {
	i := &interceptor{deliver: func(to hook.Client, d *hook.Delivery) bool {
		if to.ClientID == "mute" {
			return false
		}
		if to.ClientID == "special" {
			d.Topic, d.Payload = []byte("for/special"), bytes.ToUpper(d.Payload)
			d.Properties = codec.AppendUserProperty(nil, "from", d.From)
		}
		return true
	}}
	each(t, Options{Hooks: []any{i}}, func(t *testing.T, h *harness) {
		pub := h.client(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "a", "kept", 1, 1, retain))
		pub.expect("PUBACK 1 10")
		mute := h.client(codec.V5, "mute").subscribed(filter("a", 1))
		plain := h.client(codec.V5, "plain")
		special := h.client(codec.V5, "special")
		for _, p := range []*peer{plain, special} {
			p.send(subscribePacket(codec.V5, 1, filter("a", 1)))
		}
		plain.expect("SUBACK 1 [01]", `PUBLISH q1 r1 d0 id=1 "a" "kept"`)
		special.expect("SUBACK 1 [01]", `PUBLISH q1 r1 d0 id=1 "for/special" "KEPT" {UserProperty="from":"pub"}`)
		pub.send(publishPacket(codec.V5, "a", "x", 1, 2), publishPacket(codec.V5, "a", "y", 0, 0))
		plain.expect(`PUBLISH q1 r0 d0 id=2 "a" "x"`, `PUBLISH q0 r0 d0 "a" "y"`)
		special.expect(`PUBLISH q1 r0 d0 id=2 "for/special" "X" {UserProperty="from":"pub"}`,
			`PUBLISH q0 r0 d0 "for/special" "Y" {UserProperty="from":"pub"}`)
		mute.expect()
	})
}

func TestInterceptPackets(t *testing.T) {
	var seen []string
	i := &interceptor{packet: func(c hook.Client, p hook.Packet) bool {
		dir := "in"
		if p.Out {
			dir = "out"
		}
		v, err := p.Decode()
		if err != nil {
			t.Errorf("%v: %v", p.Header.Type, err)
		}
		seen = append(seen, fmt.Sprintf("%s %v %T", dir, p.Header.Type, v))
		pub, ok := v.(*codec.Publish)
		return !ok || string(pub.Payload) != "hide"
	}}
	each(t, Options{Hooks: []any{i}}, func(t *testing.T, h *harness) {
		seen = nil
		p := h.client(codec.V5, "p").subscribed(filter("a", 1))
		p.send(publishPacket(codec.V5, "a", "x", 0, 0), pingreq)
		p.send(publishPacket(codec.V5, "a", "hide", 0, 0)[:3])
		p.send(publishPacket(codec.V5, "a", "hide", 0, 0)[3:])
		p.expect(`PUBLISH q0 r0 d0 "a" "x"`, "PINGRESP")
		p.send(disconnectPacket(codec.V5, 0))
		want := []string{"in CONNECT *codec.Connect", "out CONNACK *codec.Connack", "in SUBSCRIBE *codec.Subscribe", "out SUBACK *codec.Suback",
			"in PUBLISH *codec.Publish", "in PINGREQ <nil>", "out PUBLISH *codec.Publish", "out PINGRESP <nil>", "in PUBLISH *codec.Publish",
			"in DISCONNECT *codec.Disconnect"}
		if !slices.Equal(seen, want) {
			t.Errorf("hooks saw\n\t%s\nwant\n\t%s", strings.Join(seen, "\n\t"), strings.Join(want, "\n\t"))
		}
	})
}

func TestAddHook(t *testing.T) {
	each(t, Options{}, func(t *testing.T, h *harness) {
		p := h.client(codec.V5, "p")
		deny := rules(func(hook.Client, hook.Action, string) bool { return true })
		f := func(want string) {
			t.Helper()
			p.send(publishPacket(codec.V5, "a", "", 1, 1))
			p.expect(want)
		}
		const no = `PUBACK 1 87 {ReasonString="not allowed to publish there"}`
		f("PUBACK 1 10")
		removeFirst, err := h.b.AddHook(deny)
		must(t, err)
		removeSecond, err := h.b.AddHook(deny)
		must(t, err)
		f(no)
		removeFirst()
		removeFirst() // again does nothing
		f(no)
		removeSecond()
		f("PUBACK 1 10")
		if _, err := h.b.AddHook(5); err == nil {
			t.Error("a number was taken as a hook")
		}
	})
}

// selfRemoving takes itself out, and puts another in, from inside.
type selfRemoving struct {
	b      *Broker
	remove func()
	other  any
	calls  *int
}

func (s *selfRemoving) Published(hook.Client, hook.Publication, codec.ReasonCode) {
	*s.calls++
	s.remove()
	_, _ = s.b.AddHook(s.other)
}

func TestHookChangesHooks(t *testing.T) {
	each(t, Options{}, func(t *testing.T, h *harness) {
		calls, r := 0, &recorder{}
		s := &selfRemoving{b: h.b, other: r, calls: &calls}
		var err error
		s.remove, err = h.b.AddHook(s)
		must(t, err)
		p := h.client(codec.V5, "p")
		p.send(publishPacket(codec.V5, "a", "1", 0, 0))
		p.send(publishPacket(codec.V5, "a", "2", 0, 0))
		if calls != 1 {
			t.Errorf("called %d times, want once", calls)
		}
		r.expect(t, "nobody wants a of p", `p published a "2" q0 rfalse from p: 10`)
	})
}

// eventLog is a hook.EventHandler.
type eventLog struct {
	kinds  hook.EventKind
	events []hook.Event
}

func (e *eventLog) EventKinds() hook.EventKind { return e.kinds }
func (e *eventLog) HandleEvent(_ context.Context, ev hook.Event) {
	e.events = append(e.events, ev)
	if string(ev.Message.Payload) == "panic" {
		panic("event handler")
	}
}

func TestEventHandler(t *testing.T) {
	log := &eventLog{kinds: hook.AllEvents}
	each(t, Options{Hooks: []any{log}}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub", keepFor(1)).subscribed(filter("a", 1))
		pub := h.client(codec.V5, "pub", willOf(codec.Will{Topic: []byte("will")}))
		pub.send(publishPacket(codec.V5, "a", "x", 1, 1), publishPacket(codec.V5, "kept", "x", 0, 0, retain), publishPacket(codec.V5, "kept", "", 0, 0, retain))
		sub.send(ackPacket(codec.V5, codec.PUBACK, 1, 0), unsubscribePacket(codec.V5, 2, "a"))
		sub.cut()
		pub.cut()
		h.advance(2 * time.Second)
		bad := h.dial(codec.V5)
		bad.send(connectPacket(codec.V5, "p", true, method("none", "")))
		h.client(codec.V5, "again").send(publishPacket(codec.V5, "a", "panic", 0, 0))
		var all hook.EventKind
		for _, e := range log.events {
			if e.Time.IsZero() {
				t.Errorf("%v has no time", e.Kind)
			}
			all |= e.Kind
		}
		const never = hook.EventListenerOpened | hook.EventListenerClosed | hook.EventDropped // not by the harness
		if all != hook.AllEvents&^never {
			for k := hook.EventKind(1); k < hook.AllEvents; k <<= 1 {
				if (all&k == 0) != (never&k != 0) {
					t.Errorf("event %v: told %v", k, all&k != 0)
				}
			}
		}
	})
}

func TestEventsBeyondTheBound(t *testing.T) {
	log := &eventLog{kinds: hook.EventPublished}
	h := newHarness(t, 1, Options{Hooks: []any{log}, HookEvents: 2})
	p := h.client(codec.V5, "p")
	h.held = true
	for range 5 {
		p.send(publishPacket(codec.V5, "a", "x", 0, 0))
	}
	h.held = false
	h.run()
	if len(log.events) != 2 || h.b.eventsDropped.Load() != 3 {
		t.Errorf("%d events, %d dropped; want 2 and 3", len(log.events), h.b.eventsDropped.Load())
	}
}
