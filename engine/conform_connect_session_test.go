package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// Sections 3.1.2.4, 3.1.2.11.2 and 3.1.3.1: Clean Start, Session Expiry
// Interval, Client Identifier.

// lasting makes the session outlive its connection in every version.
func lasting(c *codec.Connect) {
	c.CleanStart = false
	if c.Version == codec.V5 {
		keepFor(3600)(c)
	}
}

// starts connects as id with lasting and checks Session Present.
func (h *harness) starts(v codec.Version, id string, present bool, edit ...func(*codec.Connect)) *peer {
	h.t.Helper()
	p := h.dial(v)
	p.send(connectPacket(v, id, true, append([]func(*codec.Connect){lasting}, edit...)...))
	p.expectConnack(present)
	return p
}

func cleanly(c *codec.Connect) { c.CleanStart = true }

func TestCleanStartDropsTheSession(t *testing.T) {
	covers(t, "MQTT-3.1.2-4", "MQTT-3.2.2-2", "M31-clean")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			pub := h.client(v, "pub")
			h.starts(v, "c", false).subscribed(filter("t", 1)).cut()
			pub.send(publishPacket(v, "t", "queued", 1, 1))
			p := h.starts(v, "c", false, cleanly) // no session present
			pub.send(publishPacket(v, "t", "later", 1, 1))
			p.expect() // neither message nor subscription
			p.cut()
			h.client(v, "c").cut()
		}
	})
}

func TestSessionGoesOn(t *testing.T) {
	covers(t, "MQTT-3.1.2-5", "311:MQTT-3.1.2-5", "MQTT-3.1.2-23", "MQTT-3.2.0-1", "MQTT-3.2.2-3", "M31-clean", "M31-connack")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			pub := h.client(v, "pub")
			p := h.starts(v, "c", false).subscribed(filter("t", 2))
			pub.send(publishPacket(v, "t", "inflight", 1, 1))
			p.expect(`PUBLISH q1 r0 d0 id=1 "t" "inflight"`)
			p.cut()
			for i, qos := range []codec.QoS{1, 2, 1, 2} {
				pub.send(publishPacket(v, "t", fmt.Sprint("queued", i), qos, uint16(i+2)))
			}
			h.advance(time.Second)
			p = h.dial(v)
			p.send(connectPacket(v, "c", false, lasting))
			switch f := p.frame(); { // CONNACK goes first
			case v == codec.V31 && string(f) != "\x20\x02\x00\x00",
				v == codec.V311 && string(f) != "\x20\x02\x01\x00",
				v == codec.V5 && (f[0] != 0x20 || f[2] != 1 || f[3] != 0):
				t.Fatalf("version %v: got % X first", v, f)
			}
			p.expect(`PUBLISH q1 r0 d1 id=1 "t" "inflight"`,
				`PUBLISH q1 r0 d0 id=2 "t" "queued0"`, `PUBLISH q2 r0 d0 id=3 "t" "queued1"`,
				`PUBLISH q1 r0 d0 id=4 "t" "queued2"`, `PUBLISH q2 r0 d0 id=5 "t" "queued3"`)
			pub.send(publishPacket(v, "t", "now", 0, 0))
			p.expect(`PUBLISH q0 r0 d0 "t" "now"`) // the subscription is there
			h.client(v, "c").cut()
		}
	})
}

func TestSessionIsMade(t *testing.T) {
	covers(t, "MQTT-3.1.2-6", "MQTT-3.1.2-23", "MQTT-3.2.2-3")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			id := "fresh" + v.String()
			h.starts(v, id, false).cut()
			h.starts(v, id, true).cut()
		}
		// Absent or 0 the session ends with the connection, in 3.x with Clean Session 1.
		p := h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "none", false))
		p.expectConnack(false)
		p.cut()
		p = h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "none", false, keepFor(0)))
		p.expectConnack(false)
		p.cut()
		h.starts(codec.V5, "none", false).cut()
		h.client(codec.V311, "none").cut()
		h.starts(codec.V311, "none", false).cut()
	})
}

func TestSessionExpiryInterval(t *testing.T) {
	covers(t, "MQTT-3.1.2-23", "U5-3.1.2.11.2", "U5-3.2.2.3.2")
	v := codec.V5
	each(t, Options{SessionExpiryLimit: Unlimited}, func(t *testing.T, h *harness) {
		h.client(v, "short", keepFor(30)).cut()
		h.client(v, "long", keepFor(30)).cut()
		h.client(v, "never", keepFor(0xFFFFFFFF)).cut()
		h.client(v, "absent").cut()
		h.advance(29 * time.Second)
		h.back(v, "long", keepFor(0xFFFFFFFF)).cut()
		h.advance(2 * time.Second)
		f := func(id string, present bool) {
			t.Helper()
			p := h.dial(v)
			p.send(connectPacket(v, id, false, keepFor(0)))
			p.expect(connackLine(v, present))
			p.cut()
		}
		f("short", false)
		f("absent", false)
		h.advance(26 * time.Hour)
		f("never", true)
		f("long", true)
		f("never", false) // this time it was 0
	})
	each(t, Options{SessionExpiryLimit: 60}, func(t *testing.T, h *harness) { // told when it is another
		f := func(asked uint32, want string) {
			t.Helper()
			p := h.dial(v)
			p.send(connectPacket(v, fmt.Sprint("c", asked), false, keepFor(asked)))
			p.expect("CONNACK sp=0 00 {" + want + "ReceiveMaximum=64 MaximumPacketSize=1048576 TopicAliasMaximum=10}")
			p.cut()
		}
		f(59, "")
		f(60, "")
		f(61, "SessionExpiryInterval=60 ")
		f(0xFFFFFFFF, "SessionExpiryInterval=60 ")
		h.advance(61 * time.Second)
		f(0xFFFFFFFF, "SessionExpiryInterval=60 ") // and gone by then
	})
}

func TestCleanStartIsDoneBeforeConnack(t *testing.T) {
	covers(t, "MQTT-3.1.4-4", "MQTT-3.1.4-5")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			// Each takes over from the one before, which is connected.
			present := false
			for i, clean := range []bool{false, false, true, false, true, true, false, false} {
				p := h.dial(v)
				p.send(connectPacket(v, "c", clean, keepFor(60), func(c *codec.Connect) {
					if v != codec.V5 {
						c.Properties = nil
					}
				}))
				want := present && !clean
				if got, line := p.read(), connackLine(v, want); got != line {
					t.Fatalf("version %v, connection %d, clean %v: got %s, want %s", v, i, clean, got, line)
				}
				present = v == codec.V5 || !clean // what is stored when the next one comes
			}
			h.client(v, "c").cut()
		}
		p := h.dial(codec.V311)
		p.send(wire("10 {('MQTT') 04 02 0000 ('minimal')}"))
		p.expectBytes("20 02 00 00")
		p = h.dial(codec.V5)
		p.send(wire("10 {('MQTT') 05 02 0000 {} ('minimal5')}"))
		if f := p.frame(); len(f) < 5 || f[0] != 0x20 || f[2] != 0 || f[3] != 0 || int(f[4]) != len(f)-5 {
			t.Errorf("CONNACK % X, want 20, 00 00 and properties", f)
		}
	})
}

func TestSessionsByClientIdentifier(t *testing.T) {
	covers(t, "MQTT-3.1.3-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			pub := h.client(v, "pub")
			h.starts(v, "one", false).subscribed(filter("t/1", 1)).cut()
			h.starts(v, "two", false).subscribed(filter("t/2", 1)).cut()
			h.starts(v, "ONE", false).cut() // another identifier
			pub.send(publishPacket(v, "t/1", "for one", 1, 1), publishPacket(v, "t/2", "for two", 1, 2))
			for loop := range h.envs { // from wherever it comes
				for id, want := range map[string]string{
					"one": `q1 r0 d%d id=1 "t/1" "for one"`, "two": `q1 r0 d%d id=1 "t/2" "for two"`} {
					p := h.dialOn(loop, v)
					p.send(connectPacket(v, id, false, lasting))
					p.expectConnack(true)
					p.expect("PUBLISH " + fmt.Sprintf(want, min(loop, 1)))
					p.cut()
				}
			}
			for _, id := range []string{"one", "two", "ONE"} {
				h.client(v, id).cut()
			}
		}
	})
}

func TestClientIdentifiersThatMustBeAccepted(t *testing.T) {
	covers(t, "MQTT-3.1.3-5", "M31-clientid")
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	h := newHarness(t, 1, Options{MaximumConnectSize: 80 << 10})
	for _, v := range versions {
		for i := range alphabet {
			h.client(v, alphabet[i:i+1]).cut()
			h.client(v, (alphabet + alphabet)[i:i+23]).cut()
		}
		h.client(v, strings.Repeat("x", 24)).cut() // beyond what 3.1 allows: accepted, a choice
		h.client(v, strings.Repeat("x", 65535)).cut()
	}
}

func TestEmptyClientIdentifier(t *testing.T) {
	covers(t, "MQTT-3.1.3-6", "MQTT-3.1.3-7", "MQTT-3.1.3-8", "311:MQTT-3.1.3-8", "M31-emptyid", "MQTT-3.2.2-16")
	each(t, Options{}, func(t *testing.T, h *harness) {
		// 3.1.1 is not told its identifier: the two coexist, each with its own subscriptions.
		pub := h.client(codec.V311, "pub")
		one := h.client(codec.V311, "").subscribed(filter("one", 0))
		two := h.client(codec.V311, "").subscribed(filter("two", 0))
		pub.send(publishPacket(codec.V311, "one", "1", 0, 0), publishPacket(codec.V311, "two", "2", 0, 0))
		one.expect(`PUBLISH q0 r0 d0 "one" "1"`)
		two.expect(`PUBLISH q0 r0 d0 "two" "2"`)

		// 5.0 is: all distinct, also from sessions without a connection.
		seen := make(map[string]bool)
		for i := range 200 {
			p := h.dial(codec.V5)
			p.send(connectPacket(codec.V5, "", i%2 == 0, keepFor(60)))
			f := p.frame()
			ack, err := codec.ParseConnack(f[2:], codec.V5)
			id, ok := ack.Properties.Bytes(codec.AssignedClientIdentifier)
			if err != nil || !ok || len(id) == 0 || seen[string(id)] || ack.SessionPresent {
				t.Fatalf("connection %d: assigned %q, present %v, before %v, %v", i, id, ack.SessionPresent, seen[string(id)], err)
			}
			seen[string(id)] = true
			p.subscribed(filter(fmt.Sprint("for/", i), 1))
			if i%3 != 0 {
				p.cut()
			}
			if i%10 == 1 && i%3 != 0 { // the identifier finds the session again
				pub.send(publishPacket(codec.V311, fmt.Sprint("for/", i), "x", 1, 1))
				back := h.dial(codec.V5)
				back.send(connectPacket(codec.V5, string(id), false, keepFor(60)))
				back.expect(connackLine(codec.V5, true), fmt.Sprintf(`PUBLISH q1 r0 d0 id=1 "for/%d" "x"`, i))
			}
		}
		h.first(codec.V311, "10 {('MQTT') 04 00 0000 ()}", "CONNACK sp=0 02, end")
		h.first(codec.V31, "10 {('MQIsdp') 03 00 0000 ()}", "CONNACK sp=0 02, end")
		h.first(codec.V31, "10 {('MQIsdp') 03 02 0000 ()}", "CONNACK sp=0 02, end")
	})
	h := newHarness(t, 1, Options{EmptyClientID: true}) // not allowed
	h.first(codec.V5, "10 {('MQTT') 05 02 0000 {} ()}", "CONNACK sp=0 85, end")
	h.first(codec.V311, "10 {('MQTT') 04 02 0000 ()}", "CONNACK sp=0 02, end")
	h.client(codec.V5, "c")

	p := newHarness(t, 1, Options{}).dial(codec.V311)
	p.send(wire("10 {('MQTT') 04 00 0000 ()}"))
	p.expectBytes("20 02 00 02")
	p.expectEnd()
}

// refusals refuses by user name; others come in.
type refusals map[string]codec.ReasonCode

func (r refusals) Authenticate(c *hook.Connect) codec.ReasonCode { return r[c.UserName] }

func TestClientIdentifierRefusedByPolicy(t *testing.T) {
	covers(t, "MQTT-3.1.3-8")
	h := newHarness(t, 1, Options{Hooks: []any{refusals{"bad": codec.ClientIdentifierNotValid}}})
	h.first(codec.V5, "10 {('MQTT') 05 82 0000 {} ('c') ('bad')}", "CONNACK sp=0 85, end")
	h.first(codec.V311, "10 {('MQTT') 04 82 0000 ('c') ('bad')}", "CONNACK sp=0 02, end")
	h.first(codec.V31, "10 {('MQIsdp') 03 82 0000 ('c') ('bad')}", "CONNACK sp=0 02, end")
}

func TestTakeover(t *testing.T) {
	covers(t, "MQTT-3.1.4-3", "M31-takeover")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, old := range versions {
			for _, v := range versions {
				for _, clean := range []bool{true, false} {
					first := h.client(old, "c")
					second := h.dial(v)
					second.post(connectPacket(v, "c", clean))
					// Step by step: CONNACK goes out only when the older connection is closed.
					for busy := true; busy; {
						busy = false
						for _, e := range h.envs {
							if e.woken {
								e.woken, busy = false, true
								e.loop.Woken()
							}
							if len(second.in) > 0 && !first.closed {
								t.Fatalf("%v, then %v: CONNACK before the older connection was closed", old, v)
							}
						}
					}
					if old == codec.V5 {
						first.expectEnd("DISCONNECT 8E")
					} else {
						first.expectEnd()
					}
					second.expectConnack(false)
					second.send(pingreq)
					second.expect("PINGRESP")
					second.send(disconnectPacket(v, 0))
					h.client(v, "c").cut()
				}
			}
		}
	})
}

func TestRetainedMessagesAreNoPartOfASession(t *testing.T) {
	covers(t, "311:MQTT-3.1.2-7")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			p := h.client(v, "pub")
			p.send(publishPacket(v, "kept/"+v.String(), "x", 0, 0, retain))
			p.send(disconnectPacket(v, 0))
			h.client(v, "pub").cut()
			sub := h.client(v, "sub").subscribed(filter("kept/"+v.String(), 0))
			sub.expect(`PUBLISH q0 r1 d0 "kept/` + v.String() + `" "x"`)
			sub.cut()
		}
	})
}

// With the default options a client that knows nothing but the standard gets
// along: every byte here is written by hand.
func TestPlainClientNeedsNothingElse(t *testing.T) {
	covers(t, "311:MQTT-7.0.0-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		type dialogue struct {
			v     codec.Version
			lines []string // sent, answered, in turn
		}
		for _, d := range []dialogue{
			{codec.V311, []string{
				"10 {('MQTT') 04 02 003C ('plain')}", "20 02 00 00",
				"82 {000A ('a/+') 01}", "90 03 000A 01",
				"32 {('a/b') 0001 'hello'}", "32 {('a/b') 0001 'hello'} 40 02 0001",
				"40 02 0001", "",
				"34 {('a/b') 0002 'twice'}", "32 {('a/b') 0002 'twice'} 50 02 0002",
				"40 02 0002 62 02 0002", "70 02 0002",
				"C0 00", "D0 00",
				"A2 {000B ('a/+')}", "B0 02 000B",
				"30 {('a/b') 'gone'}", "",
			}},
			{codec.V31, []string{
				"10 {('MQIsdp') 03 02 003C ('plain')}", "20 02 00 00",
				"82 {000A ('a/+') 00}", "90 03 000A 00",
				"30 {('a/b') 'hello'}", "30 {('a/b') 'hello'}",
				"C0 00", "D0 00",
			}},
		} {
			p := h.dial(d.v)
			for i := 0; i < len(d.lines); i += 2 {
				p.send(wire(d.lines[i]))
				if want := wire(d.lines[i+1]); !slices.Equal(p.in, want) {
					t.Fatalf("version %v, %s: got % X, want % X", d.v, d.lines[i], p.in, want)
				}
				p.in = nil
			}
			p.send(wire("E0 00"))
			p.expectEnd()
		}
	})
}
