package engine

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
)

// reviewer is both reviewers, and goes by what it is shown.
type reviewer struct{ seen []string }

func (r *reviewer) ReviewPublish(_ context.Context, c hook.Client, p *hook.Publication) (hook.Outcome, error) {
	r.seen = append(r.seen, c.ClientID+" "+string(p.Topic))
	switch string(p.Topic) {
	case "change":
		p.Topic, p.Payload, p.QoS = []byte("changed"), append(p.Payload, '!'), 0
	case "drop":
		return hook.Outcome{Stop: true}, nil
	case "refuse":
		return hook.Outcome{Stop: true, Code: codec.QuotaExceeded, Reason: "enough"}, nil
	case "close":
		return hook.Outcome{Close: true, Code: codec.NotAuthorized}, nil
	case "wrong":
		p.Topic = []byte("#")
	case "error":
		return hook.Outcome{}, errors.New("down")
	case "panic":
		panic("reviewer")
	}
	return hook.Outcome{}, nil
}

func (r *reviewer) ReviewSubscribe(_ context.Context, c hook.Client, s *hook.Subscription) (codec.ReasonCode, error) {
	r.seen = append(r.seen, c.ClientID+" "+s.Filter)
	switch s.Filter {
	case "no":
		return codec.NotAuthorized, nil
	case "map":
		s.Filter, s.QoS = "mapped", 0
	case "error":
		return codec.Success, errors.New("down")
	case "panic":
		panic("reviewer")
	}
	return codec.Success, nil
}

func TestReviewPublish(t *testing.T) {
	each(t, Options{Hooks: []any{&reviewer{}}}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub").subscribed(filter("a", 2), filter("changed", 2))
		pub := h.client(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "a", "0", 0, 0), publishPacket(codec.V5, "a", "1", 1, 1, expiry(7)), publishPacket(codec.V5, "a", "2", 2, 2),
			publishPacket(codec.V5, "a", "2", 2, 2, dup), publishPacket(codec.V5, "change", "x", 1, 3), pingreq)
		sub.expect(`PUBLISH q0 r0 d0 "a" "0"`, `PUBLISH q1 r0 d0 id=1 "a" "1" expiry=7`, `PUBLISH q2 r0 d0 id=2 "a" "2"`, `PUBLISH q0 r0 d0 "changed" "x!"`)
		pub.expect("PUBACK 1 00", "PUBREC 2 00", "PUBREC 2 00", "PUBACK 3 00", "PINGRESP")
		pub.send(publishPacket(codec.V5, "drop", "", 1, 4), publishPacket(codec.V5, "refuse", "", 1, 5), publishPacket(codec.V5, "refuse", "", 2, 6),
			publishPacket(codec.V5, "wrong", "", 1, 7), publishPacket(codec.V5, "error", "", 1, 8), ackPacket(codec.V5, codec.PUBREL, 6, 0))
		pub.expect("PUBACK 4 00", `PUBACK 5 97 {ReasonString="enough"}`, `PUBREC 6 97 {ReasonString="enough"}`,
			`PUBACK 7 83 {ReasonString="the message was changed to one that is not valid"}`,
			`PUBACK 8 83 {ReasonString="no decision possible now"}`, "PUBCOMP 6 92")
		if n := h.dropped("intercepted"); n != 5 {
			t.Errorf("%d messages counted as intercepted, want 5", n)
		}
		for topic, want := range map[string]string{"close": "DISCONNECT 87", "panic": "DISCONNECT 83"} {
			p := h.client(codec.V5, topic)
			p.send(publishPacket(codec.V5, topic, "", 0, 0), pingreq)
			p.expectEnd(want)
		}
		sub.expect()
	})
}

func TestReviewWill(t *testing.T) {
	each(t, Options{Hooks: []any{&reviewer{}}}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub").subscribed(filter("#", 0))
		for _, topic := range []string{"change", "refuse", "panic", "w"} {
			h.client(codec.V5, topic, willOf(codec.Will{Topic: []byte(topic), Payload: []byte("gone")})).cut()
		}
		sub.expect(`PUBLISH q0 r0 d0 "changed" "gone!"`, `PUBLISH q0 r0 d0 "w" "gone"`)
		if n := h.dropped("intercepted"); n != 2 {
			t.Errorf("%d wills counted as intercepted, want 2", n)
		}
	})
}

func TestReviewSubscribe(t *testing.T) {
	r := &reviewer{}
	denied := rules(func(_ hook.Client, a hook.Action, f string) bool { return a == hook.Subscribe && f == "denied" })
	each(t, Options{Hooks: []any{r, denied}}, func(t *testing.T, h *harness) {
		p := h.client(codec.V5, "p")
		p.send(subscribePacket(codec.V5, 1, filter("a", 2), filter("no", 1), filter("map", 1), filter("error", 0), filter("denied", 0)),
			publishPacket(codec.V5, "mapped", "x", 1, 1))
		p.expect("SUBACK 1 [02 87 00 83 87]", `PUBLISH q0 r0 d0 "mapped" "x"`, "PUBACK 1 00")
		p.send(subscribePacket(codec.V5, 2, filter("a", 0), filter("panic", 1)), pingreq)
		p.expectEnd("DISCONNECT 83")
		old := h.client(codec.V311, "old")
		old.send(subscribePacket(codec.V311, 1, filter("a", 1), filter("no", 0)))
		old.expect("SUBACK 1 [01 80]")
	})
}

// TestPacketsWaitForTheReview: in the client's order, one question at a time,
// and nobody else waits.
func TestPacketsWaitForTheReview(t *testing.T) {
	r := &reviewer{}
	each(t, Options{Hooks: []any{r}, HookTimeout: time.Hour}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub").subscribed(filter("out", 0))
		p := h.client(codec.V5, "p", keepAlive(1))
		r.seen, h.held = nil, true
		p.send(subscribePacket(codec.V5, 1, filter("in", 0)))
		var all []byte
		for _, topic := range []string{"out", "in", "out"} {
			all = append(all, publishPacket(codec.V5, topic, "x", 0, 0)...)
		}
		all = append(all, pingreq...)
		for i := range all {
			p.send(all[i : i+1])
			h.advance(tick) // far longer than the keep-alive
		}
		p.expect()
		sub.send(pingreq)
		sub.expect("PINGRESP")
		for n := range 3 {
			f := h.off
			h.off = nil
			if len(f) != 1 {
				t.Fatalf("%d questions at once, want 1", len(f))
			}
			f[0]()
			h.run()
			if len(r.seen) != n+1 {
				t.Fatalf("asked %q", r.seen)
			}
		}
		h.held = false
		h.run()
		p.expect("SUBACK 1 [00]", `PUBLISH q0 r0 d0 "in" "x"`, "PINGRESP")
		sub.expect(`PUBLISH q0 r0 d0 "out" "x"`, `PUBLISH q0 r0 d0 "out" "x"`)
	})
}

// TestLeavesDuringReview: who publishes, says goodbye and closes has published,
// and leaves no will.
func TestLeavesDuringReview(t *testing.T) {
	each(t, Options{Hooks: []any{&reviewer{}}}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub").subscribed(filter("#", 0))
		will := willOf(codec.Will{Topic: []byte("will")})
		before := h.b.Connections()
		f := func(last []byte, want ...string) {
			t.Helper()
			p := h.client(codec.V5, "p", will)
			h.held = true
			p.send(publishPacket(codec.V5, "a", "1", 0, 0), publishPacket(codec.V5, "a", "2", 0, 0), last)
			p.cut()
			sub.expect()
			h.held = false
			h.run()
			sub.expect(want...)
			if n := h.b.Connections(); n != before {
				t.Errorf("%d connections, want %d", n, before)
			}
		}
		f(disconnectPacket(codec.V5, 0), `PUBLISH q0 r0 d0 "a" "1"`, `PUBLISH q0 r0 d0 "a" "2"`)
		f(nil, `PUBLISH q0 r0 d0 "a" "1"`, `PUBLISH q0 r0 d0 "a" "2"`, `PUBLISH q0 r0 d0 "will" ""`)
		f(disconnectPacket(codec.V5, 0)[:1], `PUBLISH q0 r0 d0 "a" "1"`, `PUBLISH q0 r0 d0 "a" "2"`, `PUBLISH q0 r0 d0 "will" ""`)
	})
}

// TestReviewWithoutEnd: who is gone is waited for as long as a hook may take; a
// message of QoS 2 that was not published counts as new when it comes again.
func TestReviewWithoutEnd(t *testing.T) {
	each(t, Options{Hooks: []any{&reviewer{}}}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub").subscribed(filter("#", 0))
		p := h.client(codec.V5, "p", keepFor(60))
		h.held = true
		p.send(publishPacket(codec.V5, "a", "1", 2, 9), publishPacket(codec.V5, "a", "2", 2, 10))
		p.cut()
		h.advance(h.b.options().HookTimeout + time.Second)
		if n := h.b.Connections(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
		again := h.back(codec.V5, "p", keepFor(60))
		h.held = false
		h.run()
		sub.expect()
		again.send(publishPacket(codec.V5, "a", "1", 2, 9, dup))
		again.expect("PUBREC 9 00")
		sub.expect(`PUBLISH q0 r0 d0 "a" "1"`)

		h.held = true
		again.send(publishPacket(codec.V5, "a", "2", 1, 10))
		h.back(codec.V5, "p", keepFor(60)) // takes over
		again.expectEnd("DISCONNECT 8E")
		h.held = false
		h.run()
		sub.expect()
		if n := h.dropped("intercepted"); n != 2 {
			t.Errorf("%d messages counted as dropped, want 2", n)
		}
	})
}

func TestTooManyWaitForAReview(t *testing.T) {
	o := Options{Hooks: []any{&reviewer{}}, HookWorkers: 1, HookBacklog: 1, MaximumPacketSize: 1000, MaximumConnectSize: 1000}
	each(t, o, func(t *testing.T, h *harness) {
		var p []*peer
		for _, id := range []string{"0", "1", "2"} {
			p = append(p, h.client(codec.V5, id))
		}
		h.held = true
		for i := range p {
			p[i].send(publishPacket(codec.V5, "a", "", 1, 1))
		}
		p[2].expect(`PUBACK 1 97 {ReasonString="too many wait for a decision"}`)
		for range 3 {
			p[0].send(publishPacket(codec.V5, "a", strings.Repeat("x", 900), 0, 0))
		}
		p[0].expectEnd("DISCONNECT 97")
		h.held = false
		h.run()
		p[1].expect("PUBACK 1 10")
	})
}

// slowReviewer does not answer before the test ends.
type slowReviewer struct{ end chan struct{} }

func (s slowReviewer) ReviewPublish(ctx context.Context, _ hook.Client, p *hook.Publication) (hook.Outcome, error) {
	if string(p.Topic) == "slow" {
		<-s.end
	}
	return hook.Outcome{}, nil
}

func (s slowReviewer) Decide(ctx context.Context, c *hook.Connect) (hook.Decision, error) {
	if c.UserName == "slow" {
		<-s.end
	}
	return hook.Decision{Verdict: hook.Accept}, nil
}

// TestReviewOverdue, with real time: a hook that overruns its deadline refuses,
// and holds up nobody but its client.
func TestReviewOverdue(t *testing.T) {
	s := slowReviewer{end: make(chan struct{})}
	defer close(s.end)
	b := startBroker(t, Options{Hooks: []any{s}, HookTimeout: 100 * time.Millisecond})
	p := connectSocket(t, b, codec.V5, "p", true)
	must(t, p.send(publishPacket(codec.V5, "slow", "", 1, 1)))
	other := connectSocket(t, b, codec.V5, "other", true)
	must(t, other.send(publishPacket(codec.V5, "quick", "", 1, 2)))
	other.expect("PUBACK 2 10")
	p.expect(`PUBACK 1 83 {ReasonString="no decision in time"}`)
	late := dialSocket(t, b, codec.V5)
	if _, err := late.connect("late", true, login("slow", "")); err == nil {
		t.Error("a client came in whose hook did not answer")
	}
}

// sleepyReviewer takes its time.
type sleepyReviewer struct{}

func (sleepyReviewer) ReviewPublish(context.Context, hook.Client, *hook.Publication) (hook.Outcome, error) {
	time.Sleep(20 * time.Millisecond)
	return hook.Outcome{}, nil
}

// TestPublishAndLeaveDuringReview is TestLeavesDuringReview with sockets.
func TestPublishAndLeaveDuringReview(t *testing.T) {
	a := certtest.New(t, "authority")
	b := startBroker(t, Options{Hooks: []any{sleepyReviewer{}}, Listeners: []Listener{
		{Name: "tcp", Address: "127.0.0.1:0", Anonymous: true},
		{Name: "tls", Address: "127.0.0.1:0", Anonymous: true, TLS: serverTLS(a)},
		{Name: "ws", Address: "127.0.0.1:0", Anonymous: true, WebSocket: &WebSocket{}},
		{Name: "wss", Address: "127.0.0.1:0", Anonymous: true, WebSocket: &WebSocket{}, TLS: serverTLS(a)},
	}})
	sub := connectSocket(t, b, codec.V5, "sub", true).subscribe(filter("#", 0))
	for _, l := range b.Listeners() {
		conn, err := net.Dial("tcp", l.Addr.String())
		must(t, err)
		if l.Name == "tls" || l.Name == "wss" {
			conn = tls.Client(conn, &tls.Config{RootCAs: a.Pool(), ServerName: "localhost"})
		}
		if l.Name == "ws" || l.Name == "wss" {
			conn, err = upgrade(conn, "/mqtt", "mqtt")
			must(t, err)
		}
		c := &socketClient{Conn: conn, t: t, v: codec.V5, br: bufio.NewReader(conn)}
		_, err = c.connect(l.Name, true, willOf(codec.Will{Topic: []byte("will")}))
		must(t, err)
		for _, n := range []string{"1", "2", "3"} {
			must(t, c.send(publishPacket(codec.V5, l.Name, n, 0, 0)))
		}
		must(t, c.send(disconnectPacket(codec.V5, 0)))
		must(t, c.Close())
		for _, n := range []string{"1", "2", "3"} {
			sub.expect(fmt.Sprintf("PUBLISH q0 r0 d0 %q %q", l.Name, n))
		}
	}
	eventually(t, 10*time.Second, "all but one connection gone", func() bool { return b.Connections() == 1 })
	must(t, sub.send(publishPacket(codec.V5, "end", "", 0, 0)))
	sub.expect(`PUBLISH q0 r0 d0 "end" ""`) // and no will before it
}
