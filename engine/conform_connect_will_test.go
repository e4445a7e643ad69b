package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// Sections 3.1.2.5 to 3.1.2.7 and 3.1.3.2: the Will Message, as CONNECT asks for it.

var plainWill = codec.Will{Topic: []byte("will"), Payload: []byte("gone")}

const plainWillLine = `PUBLISH q0 r0 d0 "will" "gone"`

func TestWillIsPublishedWhenTheConnectionEnds(t *testing.T) {
	covers(t, "MQTT-3.1.2-7", "MQTT-3.1.2-8", "MQTT-3.1.2-10", "M31-will", "311:MQTT-3.1.2-12", "U5-3.1.3.2-def")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			watch := h.client(v, "watch").subscribed(filter("will", 2))
			f := func(how string, want bool, edit func(*codec.Connect), end func(p *peer)) {
				t.Helper()
				for _, with := range []bool{true, false} {
					p := h.client(v, "c", edit, func(c *codec.Connect) {
						if with {
							w := plainWill
							c.Will = &w
						}
					})
					watch.expect()
					end(p)
					got := fmt.Sprint(watch.all())
					if wanted := with && want; wanted && got != "["+plainWillLine+"]" || !wanted && got != "[]" {
						t.Errorf("version %v, with will %v, %s: got %s", v, with, how, got)
					}
					p.cut()
					// It is gone: neither a later end nor a later connection brings it again.
					h.client(v, "c").cut()
					h.advance(2 * time.Second)
					watch.expect()
				}
			}
			none := func(*codec.Connect) {}
			f("socket cut", true, none, (*peer).cut)
			f("keep-alive timeout", true, keepAlive(2), func(*peer) { h.advance(4 * time.Second) })
			f("protocol error", true, none, func(p *peer) { p.send(connectPacket(v, "c", true)) })
			f("malformed packet", true, none, func(p *peer) { p.hex("C0 01 00") })
			f("takeover", true, none, func(*peer) { h.client(v, "c") })
			f("DISCONNECT", false, none, func(p *peer) { p.send(disconnectPacket(v, 0)) })
			if v == codec.V5 {
				f("DISCONNECT 00", false, none, func(p *peer) { p.hex("E0 01 00") })
				f("DISCONNECT 04", true, none, func(p *peer) { p.hex("E0 01 04") })
				f("DISCONNECT 80", true, none, func(p *peer) { p.hex("E0 01 80") })
			}
			watch.cut()
		}
	})
}

// The session, and so its will, outlives the connection: the will goes out once.
func TestWillOfALastingSession(t *testing.T) {
	covers(t, "MQTT-3.1.2-7", "MQTT-3.1.2-8", "MQTT-3.1.2-10")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			watch := h.client(v, "watch").subscribed(filter("will", 1))
			h.starts(v, "c", false, willOf(plainWill)).cut()
			watch.expect(plainWillLine)
			h.starts(v, "c", true).cut() // now without a will
			watch.expect()
			h.starts(v, "c", true, willOf(plainWill)).send(disconnectPacket(v, 0))
			h.starts(v, "c", true).cut()
			watch.expect()
			h.client(v, "c").cut()
			h.advance(2 * time.Hour)
			watch.expect()
			watch.cut()
		}
	})
}

func TestRefusedConnectHasNoWill(t *testing.T) {
	covers(t, "MQTT-3.1.2-7")
	for _, loops := range []int{1, 3} {
		h := newHarness(t, loops, Options{Hooks: []any{refusals{"bad": codec.BadUserNameOrPassword}}})
		for _, v := range versions {
			watch := h.client(v, "watch").subscribed(filter("will", 1))
			p := h.dial(v)
			p.send(connectPacket(v, "c", true, willOf(plainWill), login("bad", "x")))
			if !p.closed {
				t.Fatal("not refused")
			}
			p.cut()
			h.advance(time.Minute)
			watch.expect()
			// Nor does it take the place of the will of who is connected.
			good := h.client(v, "c", willOf(codec.Will{Topic: []byte("will"), Payload: []byte("good")}))
			p = h.dial(v)
			p.send(connectPacket(v, "c", true, willOf(plainWill), login("bad", "x")))
			p.cut()
			watch.expect()
			good.send(pingreq)
			good.expect("PINGRESP")
			good.cut()
			watch.expect(`PUBLISH q0 r0 d0 "will" "good"`)
			watch.cut()
		}
	}
}

func TestWillDelay(t *testing.T) {
	covers(t, "MQTT-3.1.2-8", "MQTT-3.1.3-9")
	v := codec.V5
	delayed := plainWill
	delayed.DelayInterval = 5
	each(t, Options{}, func(t *testing.T, h *harness) {
		watch := h.client(v, "watch").subscribed(filter("will", 0))
		start := func(expiry uint32) *peer { return h.client(v, "c", keepFor(expiry), willOf(delayed)) }

		start(60).cut() // the delay runs out
		h.advance(4 * time.Second)
		watch.expect()
		h.advance(2 * time.Second)
		watch.expect(plainWillLine)
		h.advance(2 * time.Minute)
		watch.expect()

		start(2).cut() // the session ends before
		h.advance(time.Second)
		watch.expect()
		h.advance(2 * time.Second)
		watch.expect(plainWillLine)
		h.advance(10 * time.Second)
		watch.expect()

		start(0).cut() // the session ends at once
		watch.expect(plainWillLine)

		start(60).cut() // the client returns in time
		h.advance(time.Second)
		p := h.back(v, "c", keepFor(60))
		h.advance(10 * time.Second)
		watch.expect()
		p.cut() // and has no will now
		h.advance(10 * time.Second)
		watch.expect()

		start(60) // returns by takeover
		h.back(v, "c", keepFor(60))
		h.advance(10 * time.Second)
		watch.expect()

		start(60).cut() // returns with Clean Start: that session has ended
		h.client(v, "c")
		watch.expect(plainWillLine)
	})
}

func TestWillRetain(t *testing.T) {
	covers(t, "MQTT-3.1.2-14", "MQTT-3.1.2-15")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			for qos := codec.QoS(0); qos <= 2; qos++ {
				w := codec.Will{Topic: fmt.Appendf(nil, "will/%v/%d", v, qos), Payload: []byte("gone"), QoS: qos}
				line := fmt.Sprintf("PUBLISH q%d r%%d d0%s %q \"gone\"", qos, []string{"", " id=1", " id=1"}[qos], w.Topic)
				watch := h.client(v, "watch").subscribed(filter(string(w.Topic), 2))
				h.client(v, "c", willOf(w)).cut()
				watch.expect(fmt.Sprintf(line, 0))
				late := h.client(v, "late").subscribed(filter(string(w.Topic), 2))
				late.expect() // Will Retain 0: nothing is kept

				w.Retain = true
				watch = h.client(v, "watch").subscribed(filter(string(w.Topic), 2))
				h.client(v, "c", willOf(w)).cut()
				watch.expect(fmt.Sprintf(line, 0))
				late = h.client(v, "late").subscribed(filter(string(w.Topic), 2))
				late.expect(fmt.Sprintf(line, 1))
				late.cut()
				watch.cut()
			}
		}
	})
}

func TestWillPropertiesKeepTheirOrder(t *testing.T) {
	covers(t, "MQTT-3.1.3-10")
	each(t, Options{}, func(t *testing.T, h *harness) {
		watch := h.client(codec.V5, "watch").subscribed(filter("will", 0))
		p := h.dial(codec.V5)
		p.send(wire(`10 {('MQTT') 05 06 0000 {} ('c')
			{26 ('a') ('1') 01 01 26 ('b') ('2') 18 00000000 26 ('a') ('3') 02 00000009} ('will') ('gone')}`))
		p.expectConnack(false)
		p.cut()
		watch.expect(`PUBLISH q0 r0 d0 "will" "gone" expiry=9 {UserProperty="a":"1" PayloadFormatIndicator=1 ` +
			`UserProperty="b":"2" UserProperty="a":"3"}`)
	})
}

// Without a Message Expiry Interval the will stays for good, without a Will
// Delay Interval it goes out at once.
func TestWillPropertiesAbsent(t *testing.T) {
	covers(t, "U5-3.1.3.2-def")
	each(t, Options{SessionExpiryLimit: Unlimited}, func(t *testing.T, h *harness) {
		v := codec.V5
		h.client(v, "absent", keepFor(0xFFFFFFFF)).subscribed(filter("will", 1)).cut()
		w := plainWill
		w.QoS, w.Retain = 1, true
		h.client(v, "c", keepFor(60), willOf(w)).cut()
		late := h.client(v, "late").subscribed(filter("will", 0))
		late.expect(`PUBLISH q0 r1 d0 "will" "gone"`) // there at once
		h.advance(26 * time.Hour)
		h.client(v, "later").subscribed(filter("will", 0)).expect(`PUBLISH q0 r1 d0 "will" "gone"`)
		h.back(v, "absent").expect(`PUBLISH q1 r0 d0 id=1 "will" "gone"`)
	})
}
