package engine

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

func TestSessionStaysWhileConnected(t *testing.T) {
	covers(t, "MQTT-4.1.0-1")
	each(t, Options{SessionExpiryLimit: 2}, func(t *testing.T, h *harness) {
		pub := h.client(codec.V311, "pub")
		clean := h.client(codec.V311, "clean").subscribed(filter("t", 0))
		kept := h.dial(codec.V311)
		kept.send(connectPacket(codec.V311, "kept", false))
		kept.expectConnack(false)
		kept.subscribed(filter("t", 0))
		short := h.client(codec.V5, "short", keepFor(1)).subscribed(filter("t", 0))
		none := h.client(codec.V5, "none").subscribed(filter("t", 0))
		for range 3 {
			h.advance(5 * time.Second)
			pub.send(publishPacket(codec.V311, "t", "m", 0, 0))
			for _, p := range []*peer{clean, kept, short, none} {
				p.expect(`PUBLISH q0 r0 d0 "t" "m"`)
			}
		}
		short.cut()
		h.advance(time.Second / 2)
		h.back(codec.V5, "short", keepFor(1)) // the time begins with the end of the connection
	})
}

func TestSessionEndsWithItsExpiry(t *testing.T) {
	covers(t, "MQTT-4.1.0-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		p := h.client(codec.V5, "p", keepFor(1)).subscribed(filter("t", 1))
		p.cut()
		pub := h.client(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "t", "m", 1, 1))
		pub.expect("PUBACK 1 00")
		h.advance(3 * time.Second)
		pub.send(publishPacket(codec.V5, "t", "m", 1, 1))
		pub.expect("PUBACK 1 10") // nobody subscribes any more
		p = h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", false, keepFor(1)))
		p.expect(connackLine(codec.V5, false))
		if n := h.b.directory.Len(); n != 2 {
			t.Errorf("%d sessions, want 2", n)
		}
	})
}

// A session comes back with all that belongs to it.
func TestSessionState(t *testing.T) {
	covers(t, "U5-4.1")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range []codec.Version{codec.V311, codec.V5} {
			pub := h.client(v, "pub")
			p := h.dial(v)
			p.send(connectPacket(v, "p", false, keepForIn(v, 60)))
			p.expectConnack(false)
			ids := ""
			if v == codec.V5 {
				ids = " {SubscriptionIdentifier=7}"
				p.send(subscribeID(1, 7, option("t/#", 0x2E))) // No Local, Retain As Published
			} else {
				p.send(subscribePacket(v, 1, filter("t/#", 2)))
			}
			p.expect("SUBACK 1 [02]")
			pub.send(publishPacket(v, "t/1", "one", 1, 1), publishPacket(v, "t/2", "two", 2, 2), publishPacket(v, "t/3", "three", 2, 3))
			p.expect(`PUBLISH q1 r0 d0 id=1 "t/1" "one"`+ids, `PUBLISH q2 r0 d0 id=2 "t/2" "two"`+ids,
				`PUBLISH q2 r0 d0 id=3 "t/3" "three"`+ids)
			p.send(ackPacket(v, codec.PUBREC, 3, 0))
			p.expect("PUBREL 3 00")
			p.send(publishPacket(v, "other", "inbound", 2, 9)) // open toward us
			p.all()
			p.cut()
			pub.send(publishPacket(v, "t/4", "queued", 1, 4))
			pub.all()

			p = h.back(v, "p", keepForIn(v, 60))
			p.expect(`PUBLISH q1 r0 d1 id=1 "t/1" "one"`+ids, `PUBLISH q2 r0 d1 id=2 "t/2" "two"`+ids, "PUBREL 3 00",
				`PUBLISH q1 r0 d0 id=4 "t/4" "queued"`+ids)
			h.client(v, "far").subscribed(filter("other", 2))
			p.send(publishPacket(v, "other", "inbound", 2, 9, dup)) // not handed on again
			p.expect("PUBREC 9 00")
			p.send(ackPacket(v, codec.PUBREL, 9, 0))
			p.expect("PUBCOMP 9 00")
			pub.send(publishPacket(v, "t/5", "live", 0, 0, retain))
			if v == codec.V5 {
				p.expect(`PUBLISH q0 r1 d0 "t/5" "live"` + ids)
				p.send(publishPacket(v, "t/6", "own", 0, 0))
				p.expect()
			} else {
				p.expect(`PUBLISH q0 r0 d0 "t/5" "live"`)
			}
			pub.send(publishPacket(v, "t/5", "", 0, 0, retain))
			h.client(v, "p").send(disconnectPacket(v, 0))
		}
	})
}

func TestSessionStateWillAndEnd(t *testing.T) {
	covers(t, "U5-4.1")
	each(t, Options{}, func(t *testing.T, h *harness) {
		watch := h.client(codec.V5, "watch").subscribed(filter("will", 0))
		p := h.client(codec.V5, "p", keepFor(20), lastWill("w", 10))
		p.cut()
		h.advance(9 * time.Second)
		watch.expect()
		h.advance(2 * time.Second)
		watch.expect(`PUBLISH q0 r0 d0 "will" "w"`)
		p = h.back(codec.V5, "p", keepFor(20), lastWill("w", 30))
		p.cut()
		h.advance(19 * time.Second)
		watch.expect()
		h.advance(2 * time.Second) // with the session, before its delay
		watch.expect(`PUBLISH q0 r0 d0 "will" "w"`)
		p = h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", false))
		p.expectConnack(false)
	})
}

func TestRequestResponse(t *testing.T) {
	covers(t, "U5-4.10")
	each(t, Options{ResponseInfo: "answers/"}, func(t *testing.T, h *harness) {
		f := func(want bool, edit ...func(*codec.Connect)) {
			t.Helper()
			p := h.dial(codec.V5)
			p.send(connectPacket(codec.V5, "p", true, edit...))
			line, more := connackLine(codec.V5, false), ""
			if want {
				more = ` ResponseInformation="answers/"`
			}
			p.expect(line[:len(line)-1] + more + "}")
		}
		f(false)
		f(false, with(codec.RequestResponseInformation, 0))
		f(true, with(codec.RequestResponseInformation, 1))

		asker := h.client(codec.V5, "asker").subscribed(filter("answers/asker", 1))
		server := h.client(codec.V5, "server").subscribed(filter("ask", 1))
		request := codec.AppendBytes(nil, codec.ResponseTopic, "answers/asker")
		request = codec.AppendBytes(request, codec.CorrelationData, "\x00\xFF7")
		asker.send(publishWith("ask", "what", 0, 0, request))
		server.expect(`PUBLISH q0 r0 d0 "ask" "what" {ResponseTopic="answers/asker" CorrelationData="\x00\xff7"}`)
		server.send(publishWith("answers/asker", "that", 0, 0, codec.AppendBytes(nil, codec.CorrelationData, "\x00\xFF7")))
		asker.expect(`PUBLISH q0 r0 d0 "answers/asker" "that" {CorrelationData="\x00\xff7"}`)
	})
}

// The broker itself on TCP: an ordered, lossless stream both ways.
func TestOverTCP(t *testing.T) {
	covers(t, "MQTT-4.2.0-1")
	b, err := New(Options{Listeners: []Listener{{Address: "127.0.0.1:0", Anonymous: true}}, Loops: 2, SysInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	nc, err := net.Dial("tcp", b.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	const messages = 2000
	out := connectPacket(codec.V311, "tcp", true)
	out = append(out, subscribePacket(codec.V311, 1, filter("t", 0))...)
	want := []byte{0x20, 2, 0, 0, 0x90, 3, 0, 1, 0}
	for i := range messages {
		m := publishPacket(codec.V311, "t", string([]byte{byte(i), byte(i >> 8)}), 0, 0)
		out, want = append(out, m...), append(want, m...)
	}
	out = append(out, disconnectPacket(codec.V311, 0)...)
	go func() { _, _ = nc.Write(out) }()
	got, err := io.ReadAll(io.LimitReader(nc, int64(len(want)+1)))
	if err != nil || string(got) != string(want) {
		t.Fatalf("%v: %d bytes came, want %d; equal %v", err, len(got), len(want), string(got) == string(want))
	}
}
