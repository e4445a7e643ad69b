package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// lastWill is a will of QoS 0 on the topic "will".
func lastWill(payload string, delay uint32) func(*codec.Connect) {
	return willOf(codec.Will{Topic: []byte("will"), Payload: []byte(payload), DelayInterval: delay})
}

func TestDisconnectMalformed(t *testing.T) {
	covers(t, "MQTT-3.14.1-1", "MQTT-4.13.1-1", "MQTT-4.13.2-1", "U5-4.13.1-send")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, f := range []string{"E1", "E2", "E4", "E8"} {
			h.fault(codec.V5, f+" 00", 0x81)
			h.fault(codec.V311, f+" 00", 0)
		}
		h.fault(codec.V311, "E0 01 00", 0) // 3.x: no body
		h.fault(codec.V31, "E0 01 00", 0)
		h.fault(codec.V5, "E0 03 00 00 00", 0x81)                      // left over
		h.fault(codec.V5, "E0 02 00 05", 0x81)                         // Property Length
		h.fault(codec.V5, "E0 05 00 03 21 0001", 0x81)                 // property of another packet
		h.fault(codec.V5, "E0 0C 00 0A 11 00000000 11 00000000", 0x82) // twice
	})
}

func TestDisconnectCodesOfClients(t *testing.T) {
	covers(t, "MQTT-3.14.2-1", "MQTT-3.14.4-3", "U5-3.14.4-recv")
	each(t, Options{}, func(t *testing.T, h *harness) {
		open := map[int]bool{0x00: true, 0x04: true, 0x80: true, 0x81: true, 0x82: true, 0x83: true, 0x90: true,
			0x93: true, 0x94: true, 0x95: true, 0x96: true, 0x97: true, 0x98: true, 0x99: true}
		watch := h.client(codec.V5, "watch").subscribed(filter("will", 0))
		for code := range 256 {
			p := h.client(codec.V5, "p", lastWill("w", 0))
			p.hex(fmt.Sprintf("E0 01 %02X", code))
			switch {
			case code == 0:
				p.expectEnd()
				watch.expect()
				continue
			case open[code]:
				p.expectEnd()
			default:
				p.expectEnd("DISCONNECT 82")
			}
			watch.expect(`PUBLISH q0 r0 d0 "will" "w"`)
		}
	})
}

func TestDisconnectShortForms(t *testing.T) {
	covers(t, "U5-3.14.2.1-short", "U5-3.14.4-recv", "MQTT-3.14.4-2", "MQTT-3.14.4-3")
	each(t, Options{}, func(t *testing.T, h *harness) {
		watch := h.client(codec.V5, "watch").subscribed(filter("will", 0))
		f := func(v codec.Version, bytes string, will bool) {
			t.Helper()
			p := h.client(v, "p", lastWill("w", 0))
			p.hex(bytes)
			p.expectEnd()
			if will {
				watch.expect(`PUBLISH q0 r0 d0 "will" "w"`)
			} else {
				watch.expect()
			}
			h.advance(lingering + 2*tick)
			if !p.gone { // though the client keeps its socket
				t.Error("the connection is still up")
			}
			watch.expect()
		}
		f(codec.V31, "E0 00", false)
		f(codec.V311, "E0 00", false)
		f(codec.V5, "E0 00", false)
		f(codec.V5, "E0 01 00", false)
		f(codec.V5, "E0 02 00 00", false)
		f(codec.V5, "E0 01 04", true)
		f(codec.V5, "E0 02 04 00", true)
		f(codec.V5, "E0 09 00 07 26 0001 61 0001 62", false)
		f(codec.V5, "E0 06 04 04 1F 0001 61", true)
	})
}

func TestDisconnectDropsDelayedWill(t *testing.T) {
	covers(t, "MQTT-3.14.4-3")
	each(t, Options{}, func(t *testing.T, h *harness) {
		watch := h.client(codec.V5, "watch").subscribed(filter("will", 0))
		p := h.client(codec.V5, "p", lastWill("w", 10), keepFor(100))
		p.send(disconnectPacket(codec.V5, 0))
		h.advance(200 * time.Second)
		watch.expect()
		p = h.client(codec.V5, "p", lastWill("w", 10), keepFor(100))
		p.cut() // the delay begins
		h.advance(5 * time.Second)
		p = h.back(codec.V5, "p", lastWill("w", 10), keepFor(100))
		p.send(disconnectPacket(codec.V5, 0))
		h.advance(200 * time.Second)
		watch.expect()
	})
}

func TestNothingAfterDisconnect(t *testing.T) {
	covers(t, "MQTT-3.14.4-1", "MQTT-3.14.4-2", "MQTT-4.13.2-1")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			watch := h.client(v, "watch").subscribed(filter("t", 0))
			note := publishPacket(v, "t", "late", 0, 0)
			p := h.client(v, "p")
			p.send(disconnectPacket(v, 0), note, note[:3]) // in one piece
			p.send(note[3:], note)                         // and behind it
			p.expectEnd()
			watch.expect()

			p = h.client(v, "p")
			p.hex("C1 00") // what 3.1 overlooks
			if v != codec.V31 {
				p.all()
				p.send(note, pingreq)
				p.expectEnd()
				watch.expect()
			}

			p = h.client(v, "p").subscribed(filter("t", 0))
			second := h.client(v, "p") // takes over
			if v == codec.V5 {
				p.expectEnd("DISCONNECT 8E")
			} else {
				p.expectEnd()
			}
			p.send(note, pingreq)
			watch.send(note)
			p.expectEnd()
			watch.expect(`PUBLISH q0 r0 d0 "t" "late"`)
			second.expect()
			h.advance(lingering + 2*tick)
			if !p.gone {
				t.Error("the connection is still up")
			}
		}
	})
}

func TestNoDisconnectBeforeConnack(t *testing.T) {
	covers(t, "MQTT-3.14.0-1", "MQTT-4.13.2-1", "U5-4.13.1-send")
	refusing := Options{Listeners: []Listener{{Address: "harness:1883"}}}
	each(t, refusing, func(t *testing.T, h *harness) {
		f := func(bytes string) {
			t.Helper()
			p := h.dial(codec.V5)
			p.hex(bytes)
			if len(p.in) > 0 && (p.in[0] != 0x20 || p.in[3] == 0) || !p.closed {
				t.Errorf("%s: got % X, closed %v", bytes, p.in, p.closed)
			}
			h.advance(lingering + 2*tick)
			if !p.gone {
				t.Errorf("%s: the connection is still up", bytes)
			}
		}
		f("10 10 0004 4D515454 05 02 0000 03 21 0000 0000")         // Receive Maximum 0
		f("10 0D 0004 4D515454 05 02 0000 00 0000")                 // anonymous is not allowed
		f("10 0D 0004 4D515454 05 03 0000 00 0000")                 // reserved flag
		f("10 0D 0004 4D515454 06 02 0000 00 0000")                 // version
		f("10 0D 0004 4D515455 05 02 0000 00 0000")                 // name
		f("10 13 0004 4D515454 05 1E 0000 00 0000 00 0001 61 0000") // will QoS 3
		f("10 18 0004 4D515454 05 02 0000 0B 15 0004 6E6F7065 16 0001 61 0000")
		f("10 0C 0004 4D515454 04 02 0000 0000") // a field longer than the packet
		f("10 0C 0004 4D515454 04 00 0000 0000")
		f("11 0C 0004 4D515454 04 02 0000 0000")
		f("10 FFFFFF7F")
		f("10 80808080 01")
		f("C0 00")
		f("E0 00")
		f("E0 01 00")
		f("F0 00")
		f("00 00")
		f("474554202F20485454502F312E310D0A") // HTTP
		f("16030100")                         // TLS
	})
}

// Each way by which the broker ends a connection, with the code on the wire:
// one that a server may send, and without Session Expiry Interval.
func TestServerDisconnects(t *testing.T) {
	covers(t, "MQTT-3.14.2-1", "MQTT-3.14.2-2", "MQTT-4.13.1-1", "MQTT-4.13.2-1")
	zero := codec.QoS(0)
	each(t, Options{MaximumQoS: &zero, NoRetained: true, MaximumPacketSize: 200}, func(t *testing.T, h *harness) {
		seen := make(map[byte]bool)
		f := func(want byte, end func(p *peer)) {
			t.Helper()
			p := h.client(codec.V5, "p", keepFor(100), keepAlive(10))
			end(p)
			b := p.frame()
			if len(b) < 3 || b[0] != 0xE0 || b[2] != want || !serverDisconnectCode(b[2]) {
				t.Fatalf("got % X, want DISCONNECT %02X", b, want)
			}
			head, _, _ := codec.ReadHeader(b)
			d, err := codec.ParseDisconnect(b[head.Size:], codec.V5, codec.FromServer)
			if _, has := d.Properties.Uint(codec.SessionExpiryInterval); err != nil || has {
				t.Fatalf("%v, Session Expiry Interval %v", err, has)
			}
			p.expectEnd()
			seen[want] = true
		}
		bytes := func(s string) func(*peer) { return func(p *peer) { p.hex(s) } }
		f(0x81, bytes("C1 00"))
		f(0x82, bytes("D0 00"))
		f(0x8D, func(*peer) { h.advance(20 * time.Second) })
		f(0x8E, func(*peer) { h.client(codec.V5, "p") })
		f(0x90, bytes("30 04 0001 23 00"))
		f(0x94, bytes("30 06 0000 03 23 FFFF"))
		f(0x95, bytes("30 C701"))
		f(0x9A, bytes("31 04 0001 61 00"))
		f(0x9B, bytes("32 06 0001 61 0001 00"))
		f(0x8B, func(p *peer) {
			for _, l := range h.b.loops {
				l.begin()
				l.farewell()
				l.end()
			}
			h.run()
		})
		if seen[0x04] || len(seen) != 10 {
			t.Errorf("codes seen: %v", seen)
		}
	})
}

func TestDisconnectWithinMaximumPacketSize(t *testing.T) {
	covers(t, "MQTT-3.14.2-3", "MQTT-3.14.2-4")
	each(t, Options{}, func(t *testing.T, h *harness) {
		f := func(limit uint32, reason bool) {
			t.Helper()
			p := h.client(codec.V5, "p", with(codec.MaximumPacketSize, limit))
			p.hex("82 03 0001 00")
			b := p.frame()
			if len(b) < 3 || b[0] != 0xE0 || b[2] != 0x82 || len(b) > int(limit) || (len(b) > 3) != reason {
				t.Errorf("Maximum Packet Size %d: got % X", limit, b)
			}
			p.expectEnd()
		}
		f(20, false)
		f(21, false)
		f(22, true) // "no topic filter" just fits
		f(100, true)
	})
}

func TestDisconnectChangesExpiry(t *testing.T) {
	covers(t, "U5-3.14.2.2.2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		h.fault(codec.V5, "E0 07 00 05 11 0000000A", 0x82) // from 0 to 10
		p := h.client(codec.V5, "p")
		p.hex("E0 07 00 05 11 00000000") // 0 stays 0
		p.expectEnd()

		f := func(bytes string, after time.Duration, present bool) {
			t.Helper()
			p := h.client(codec.V5, "p", keepFor(10))
			p.hex(bytes)
			p.expectEnd()
			h.advance(after)
			p = h.dial(codec.V5)
			p.send(connectPacket(codec.V5, "p", false))
			p.expectConnack(present)
		}
		f("E0 07 00 05 11 00000000", 0, false) // ends at once
		f("E0 00", 9*time.Second, true)
		f("E0 00", 11*time.Second, false)
		f("E0 07 00 05 11 0000001E", 29*time.Second, true) // longer
		f("E0 07 00 05 11 0000001E", 31*time.Second, false)
		f("E0 07 00 05 11 00000002", 3*time.Second, false) // shorter
		f("E0 07 04 05 11 00000002", time.Second, true)
	})
}
