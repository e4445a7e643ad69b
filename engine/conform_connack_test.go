package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// Sections 3.1.4 and 3.2: refusals, and what CONNACK announces.

// refusalCodes are the codes with which a hook may refuse, and the return code
// of 3.x that stands for each; 0: closed without CONNACK.
var refusalCodes = map[codec.ReasonCode]byte{
	0x80: 0, 0x82: 0, 0x83: 0, 0x84: 1, 0x85: 2, 0x86: 4, 0x87: 5, 0x88: 3, 0x89: 3, 0x8A: 5, 0x8C: 5,
	0x95: 0, 0x97: 3, 0x99: 0, 0x9A: 0, 0x9B: 0, 0x9C: 3, 0x9D: 3, 0x9F: 3,
}

// notConnackCodes are failing codes that CONNACK must not have.
var notConnackCodes = []codec.ReasonCode{0x8B, 0x8D, 0x8E, 0x8F, 0x91, 0x92, 0x93, 0x94, 0x96, 0x98, 0x9E, 0xA0, 0xA1, 0xA2, 0xFF}

func TestRefusalCodes(t *testing.T) {
	covers(t, "MQTT-3.1.4-2", "MQTT-3.2.2-6", "MQTT-3.2.2-7", "MQTT-3.2.2-8", "M31-codes", "U5-3.2.2.3.16")
	by := refusals{}
	for code := range refusalCodes {
		by[fmt.Sprintf("%02X", byte(code))] = code
	}
	for _, code := range notConnackCodes {
		by[fmt.Sprintf("%02X", byte(code))] = code
	}
	each(t, Options{Hooks: []any{by}}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			h.starts(v, "stored", false).cut() // Session Present is 0 all the same
			for user, code := range by {
				p := h.dial(v)
				p.send(connectPacket(v, "stored", false, lasting, login(user, "x")))
				v3, may := refusalCodes[code]
				f := p.frame()
				switch {
				case v == codec.V5 && !may, v != codec.V5 && v3 == 0:
					if f != nil {
						t.Errorf("version %v, code %s: got % X, want no CONNACK", v, user, f)
					}
				case v == codec.V5:
					ack, err := codec.ParseConnack(f[2:], v)
					if err != nil || f[0] != 0x20 || f[2] != 0 || ack.Code != code {
						t.Errorf("code %s: got % X, %v", user, f, err)
					}
					if _, ok := ack.Properties.Bytes(codec.ServerReference); ok && code != 0x9C && code != 0x9D {
						t.Errorf("code %s: a Server Reference", user)
					}
				case string(f) != string([]byte{0x20, 2, 0, v3}):
					t.Errorf("version %v, code %s: got % X, want 20 02 00 %02X", v, user, f, v3)
				}
				p.expectEnd()
			}
			h.starts(v, "stored", true).cut() // nor did a refusal touch the session
			h.client(v, "stored").cut()
		}
	})
}

// The broker's own refusals.
func TestRefusalsWithoutHooks(t *testing.T) {
	covers(t, "MQTT-3.1.4-2", "MQTT-3.2.2-7")
	f := func(o Options, v5, v3 string) {
		t.Helper()
		each(t, o, func(t *testing.T, h *harness) {
			h.first(codec.V5, "10 {('MQTT') 05 02 0000 {} ('first')}", v5)
			h.first(codec.V311, "10 {('MQTT') 04 02 0000 ('first')}", v3)
			h.first(codec.V31, "10 {('MQIsdp') 03 02 0000 ('first')}", v3)
		})
	}
	f(Options{Listeners: []Listener{{Address: "harness:1883"}}}, "CONNACK sp=0 87, end", "CONNACK sp=0 05, end")

	each(t, Options{MaxSessions: 2}, func(t *testing.T, h *harness) { // a quota
		h.starts(codec.V5, "one", false).cut()
		h.client(codec.V311, "two")
		h.first(codec.V5, "10 {('MQTT') 05 02 0000 {} ('three')}", "CONNACK sp=0 97, end")
		h.first(codec.V311, "10 {('MQTT') 04 02 0000 ('three')}", "CONNACK sp=0 03, end")
		h.starts(codec.V5, "one", true) // not one more
	})
}

func TestNothingIsDoneBehindARefusal(t *testing.T) {
	covers(t, "MQTT-3.1.4-6")
	each(t, Options{Hooks: []any{refusals{"bad": codec.BadUserNameOrPassword}}}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			watch := h.client(v, "watch").subscribed(filter("#", 0))
			for _, split := range []bool{false, true} {
				p := h.dial(v)
				parts := [][]byte{connectPacket(v, "c", true, login("bad", "x")), publishPacket(v, "t", "x", 0, 0),
					publishPacket(v, "t", "y", 0, 0, retain), subscribePacket(v, 1, filter("t", 0)), connectPacket(v, "c", true)}
				if split {
					for _, b := range parts {
						p.send(b)
					}
				} else {
					p.send(parts...)
				}
				want := "CONNACK sp=0 86, end"
				if v != codec.V5 {
					want = "CONNACK sp=0 04, end"
				}
				if got := p.taken(); got != want {
					t.Errorf("version %v: got %q, want %q", v, got, want)
				}
				p.cut()
			}
			watch.expect()
			watch.cut()
			h.client(v, "late").subscribed(filter("#", 0)).expect()
		}
	})
}

func TestConnackFlags(t *testing.T) {
	covers(t, "MQTT-3.2.2-1")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			for want, clean := range []bool{true, false} {
				p := h.dial(v)
				p.send(connectPacket(v, "c", clean, func(c *codec.Connect) {
					if v == codec.V5 {
						keepFor(60)(c)
					}
				}))
				if v != codec.V5 && want == 1 || v == codec.V31 { // the session of before ended with its connection
					want = 0
				}
				if f := p.frame(); f[0] != 0x20 || f[2] != byte(want) {
					t.Errorf("version %v, clean %v: got % X, want flags %02X", v, clean, f, want)
				}
				p.cut()
			}
			h.client(v, "c").cut()
		}
	})
}

func TestOneConnackPerConnection(t *testing.T) {
	covers(t, "MQTT-3.2.0-2", "MQTT-3.2.0-1", "MQTT-3.1.2-30")
	each(t, Options{Hooks: []any{turnMethod{}}}, func(t *testing.T, h *harness) {
		p := h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "c", true, method("turn", "hello")))
		p.expect(challengeLine) // only AUTH goes ahead of CONNACK
		p.send(authPacket(codec.ContinueAuthentication, "turn", "proof"))
		if got := p.taken(); got != "CONNACK sp=0 00" {
			t.Fatalf("got %q, want one CONNACK", got)
		}
		for range 2 {
			p.send(authPacket(codec.ReAuthenticate, "turn", "hello"))
			p.expect(challengeLine)
			p.send(authPacket(codec.ContinueAuthentication, "turn", "proof"))
			p.expect(welcomeLine)
		}

		// Until CONNACK only AUTH and DISCONNECT are allowed.
		watch := h.client(codec.V5, "watch").subscribed(filter("#", 0))
		f := func(packet []byte, want string) {
			t.Helper()
			p := h.dial(codec.V5)
			p.send(connectPacket(codec.V5, "early", true, method("turn", "hello")), packet)
			if got := p.taken(); got != challengeLine+", "+want && got != want {
				t.Errorf("% X before CONNACK: got %q, want %q", packet, got, want)
			}
			p.cut()
			watch.expect()
		}
		f(publishPacket(codec.V5, "t", "x", 0, 0), "CONNACK sp=0 82, end")
		f(publishPacket(codec.V5, "t", "x", 1, 1), "CONNACK sp=0 82, end")
		f(subscribePacket(codec.V5, 1, filter("t", 0)), "CONNACK sp=0 82, end")
		f(pingreq, "CONNACK sp=0 82, end")
		f(connectPacket(codec.V5, "early", true), "CONNACK sp=0 82, end")
		f(disconnectPacket(codec.V5, 0), "end")
	})
}

func maximumQoS(q codec.QoS) *codec.QoS { return &q }

// announces connects and compares the properties of CONNACK.
func (h *harness) announces(want string, edit ...func(*codec.Connect)) {
	h.t.Helper()
	p := h.dial(codec.V5)
	p.send(connectPacket(codec.V5, "c", true, edit...))
	p.expect("CONNACK sp=0 00 {" + want + "}")
	p.cut()
}

func TestMaximumQoS(t *testing.T) {
	covers(t, "MQTT-3.2.2-9", "MQTT-3.2.2-10", "MQTT-3.2.2-11", "MQTT-3.2.2-12")
	f := func(most codec.QoS, announced string) {
		each(t, Options{MaximumQoS: maximumQoS(most)}, func(t *testing.T, h *harness) {
			h.announces("ReceiveMaximum=64 " + announced + "MaximumPacketSize=1048576 TopicAliasMaximum=10")
			sub := h.client(codec.V5, "sub")
			sub.send(subscribePacket(codec.V5, 1, filter("a", 0), filter("b", 1), filter("c", 2)))
			sub.expect(fmt.Sprintf("SUBACK 1 [00 %02X %02X]", min(1, most), min(2, most)))
			for qos := codec.QoS(0); qos <= 2; qos++ {
				w := codec.Will{Topic: []byte("w"), QoS: qos}
				p := h.dial(codec.V5)
				p.send(connectPacket(codec.V5, "w", true, willOf(w)))
				want := "CONNACK sp=0 00"
				if qos > most {
					want = "CONNACK sp=0 9B, end"
				}
				if got := p.taken(); got != want {
					t.Errorf("Maximum QoS %d, Will QoS %d: got %q, want %q", most, qos, got, want)
				}
				p.cut()
				if qos > most {
					h.ends(codec.V5, fmt.Sprintf("%02X {('c') 0001 {} 'p'}", 0x30|qos<<1), codec.QoSNotSupported)
				}
			}
			h.client(codec.V5, "pub").send(publishPacket(codec.V5, "c", "x", most, uint16(most)))
			if got := sub.read(); !strings.HasPrefix(got, fmt.Sprintf("PUBLISH q%d", most)) {
				t.Errorf("Maximum QoS %d: got %q", most, got)
			}
		})
	}
	f(0, "MaximumQoS=0 ")
	f(1, "MaximumQoS=1 ")
	f(2, "")
}

func TestRetainAvailable(t *testing.T) {
	covers(t, "MQTT-3.2.2-13", "MQTT-3.2.2-14")
	each(t, Options{NoRetained: true}, func(t *testing.T, h *harness) {
		h.announces("ReceiveMaximum=64 RetainAvailable=0 MaximumPacketSize=1048576 TopicAliasMaximum=10")
		h.first(codec.V5, "10 {('MQTT') 05 26 0000 {} ('c') {} ('t') ('w')}", "CONNACK sp=0 9A, end")
		h.first(codec.V5, "10 {('MQTT') 05 06 0000 {} ('c') {} ('t') ('w')}", "CONNACK sp=0 00")
		h.ends(codec.V5, "31 {('t') {} 'p'}", codec.RetainNotSupported)
		h.ends(codec.V5, "33 {('t') 0001 {} 'p'}", codec.RetainNotSupported)
		h.ends(codec.V5, "31 {('t') {}}", codec.RetainNotSupported)
		h.open(codec.V5, "32 {('t') 0001 {} 'p'}", "PUBACK 1 10")
	})
}

func TestMaximumPacketSizeOfTheBroker(t *testing.T) {
	covers(t, "MQTT-3.2.2-15")
	each(t, Options{MaximumPacketSize: 1000}, func(t *testing.T, h *harness) {
		h.announces("ReceiveMaximum=64 MaximumPacketSize=1000 TopicAliasMaximum=10")
		for _, v := range versions {
			payload := 1000 - 3 - 3 // fixed header and topic name
			if v == codec.V5 {
				payload--
			}
			sub := h.client(v, "sub").subscribed(filter("t", 0))
			pub := h.client(v, "pub")
			pub.send(publishPacket(v, "t", strings.Repeat("x", payload), 0, 0))
			if got := len(sub.frame()); got != 1000 {
				t.Errorf("version %v: a packet of 1000 bytes came as %d", v, got)
			}
			big := publishPacket(v, "t", strings.Repeat("x", payload+1), 0, 0)
			pub.send(big[:3]) // its header is enough
			if v == codec.V5 {
				pub.expectEnd("DISCONNECT 95")
			} else {
				pub.expectEnd()
			}
			sub.expect()
		}
	})
}

func TestTopicAliasMaximumOfTheBroker(t *testing.T) {
	covers(t, "MQTT-3.2.2-17", "MQTT-3.2.2-18")
	h := newHarness(t, 1, Options{TopicAliasMaximum: 3})
	h.announces("ReceiveMaximum=64 MaximumPacketSize=1048576 TopicAliasMaximum=3")
	h.open(codec.V5, "32 {('t') 0001 {23 0003} 'p'}", "PUBACK 1 10")
	h.ends(codec.V5, "32 {('t') 0001 {23 0004} 'p'}", codec.TopicAliasInvalid)
	h.ends(codec.V5, "30 {('t') {23 FFFF} 'p'}", codec.TopicAliasInvalid)
	h = newHarness(t, 1, Options{NoTopicAliases: true})
	h.announces("ReceiveMaximum=64 MaximumPacketSize=1048576")
	h.ends(codec.V5, "30 {('t') {23 0001} 'p'}", codec.TopicAliasInvalid)
	h.ends(codec.V5, "30 {() {23 0001} 'p'}", codec.TopicAliasInvalid)
}

func TestReasonStringOfConnackFits(t *testing.T) {
	covers(t, "MQTT-3.2.2-19")
	each(t, Options{Hooks: []any{refusals{"bad": codec.BadUserNameOrPassword}}}, func(t *testing.T, h *harness) {
		refused := func(limit uint32) []byte {
			p := h.dial(codec.V5)
			p.send(connectPacket(codec.V5, "c", true, login("bad", "x"), with(codec.MaximumPacketSize, limit)))
			f := p.frame()
			p.expectEnd()
			return f
		}
		full := refused(1000)
		if len(full) < 9 || full[5] != byte(codec.ReasonString) {
			t.Fatalf("got % X, want a CONNACK with a Reason String", full)
		}
		if got := refused(uint32(len(full))); len(got) != len(full) {
			t.Errorf("with room for all of it: got % X", got)
		}
		for limit := uint32(5); limit < uint32(len(full)); limit++ {
			if got := refused(limit); string(got) != string(wire("20 03 00 86 00")) {
				t.Errorf("Maximum Packet Size %d: got % X, want the bare CONNACK", limit, got)
			}
		}
		for limit := uint32(1); limit < 5; limit++ {
			if got := refused(limit); got != nil {
				t.Errorf("Maximum Packet Size %d: got % X, want nothing", limit, got)
			}
		}
	})
}

func TestSubscriptionFeaturesSwitchedOff(t *testing.T) {
	covers(t, "U5-3.2.2.3.11", "U5-3.2.2.3.12", "U5-3.2.2.3.13")
	f := func(o Options, announced, refused, granted string, code codec.ReasonCode) {
		t.Helper()
		each(t, o, func(t *testing.T, h *harness) {
			h.announces("ReceiveMaximum=64 MaximumPacketSize=1048576 TopicAliasMaximum=10 " + announced)
			h.open(codec.V5, refused, fmt.Sprintf("SUBACK 1 [%02X]", byte(code)))
			h.open(codec.V5, granted, "SUBACK 1 [00]")
		})
		each(t, Options{}, func(t *testing.T, h *harness) { h.open(codec.V5, refused, "SUBACK 1 [00]") })
	}
	plain := "82 {0001 {} ('a/b') 00}"
	f(Options{NoWildcardSubscriptions: true}, "WildcardSubscriptionAvailable=0", "82 {0001 {} ('a/#') 00}", plain, 0xA2)
	f(Options{NoWildcardSubscriptions: true}, "WildcardSubscriptionAvailable=0", "82 {0001 {} ('+') 00}", plain, 0xA2)
	f(Options{NoSubscriptionIdentifiers: true}, "SubscriptionIdentifiersAvailable=0", "82 {0001 {0B 07} ('a/b') 00}", plain, 0xA1)
	f(Options{NoSharedSubscriptions: true}, "SharedSubscriptionAvailable=0", "82 {0001 {} ('$share/g/a') 00}", plain, 0x9E)
}

func TestKeepAlive(t *testing.T) {
	covers(t, "MQTT-3.1.2-22", "MQTT-3.2.2-22", "M31-keepalive")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			watch := h.client(v, "watch").subscribed(filter("will", 0))
			silent := h.client(v, "silent", keepAlive(2), willOf(plainWill))
			pinging := h.client(v, "pinging", keepAlive(2))
			half := h.client(v, "half", keepAlive(2)) // bytes that never make a packet
			off := h.client(v, "off", keepAlive(0))
			for range 5 {
				h.advance(500 * time.Millisecond)
				pinging.send(pingreq)
				pinging.expect("PINGRESP")
			}
			half.send(wire("30 20"))
			silent.expect() // 2.5 s
			watch.expect()
			h.advance(250 * time.Millisecond)
			silent.expect()
			h.advance(time.Second) // 3.75 s: past 3 s and what the ticks add
			if v == codec.V5 {
				silent.expectEnd("DISCONNECT 8D")
				half.expectEnd("DISCONNECT 8D")
			} else {
				silent.expectEnd()
				half.expectEnd()
			}
			watch.expect(plainWillLine)
			pinging.expect()
			h.advance(time.Hour)
			off.expect()
			off.cut()
			watch.cut()
		}
		h.announces("ReceiveMaximum=64 MaximumPacketSize=1048576 TopicAliasMaximum=10", keepAlive(2)) // no Server Keep Alive
	})
	each(t, Options{KeepAliveMaximum: 10 * time.Second}, func(t *testing.T, h *harness) {
		h.announces("ReceiveMaximum=64 MaximumPacketSize=1048576 TopicAliasMaximum=10", keepAlive(2))
		h.announces("ReceiveMaximum=64 MaximumPacketSize=1048576 TopicAliasMaximum=10 ServerKeepAlive=10", keepAlive(60))
	})
}

func TestResponseInformationOnlyOnRequest(t *testing.T) {
	covers(t, "MQTT-3.1.2-28")
	each(t, Options{ResponseInfo: "replies/"}, func(t *testing.T, h *harness) {
		const rest = "ReceiveMaximum=64 MaximumPacketSize=1048576 TopicAliasMaximum=10"
		h.announces(rest)
		h.announces(rest, with(codec.RequestResponseInformation, 0))
		h.announces(rest+` ResponseInformation="replies/"`, with(codec.RequestResponseInformation, 1))
	})
}

func TestProblemInformationSwitchedOff(t *testing.T) {
	covers(t, "MQTT-3.1.2-29")
	denied := rules(func(_ hook.Client, _ hook.Action, topic string) bool { return strings.HasPrefix(topic, "no") })
	each(t, Options{Hooks: []any{denied, refusals{"bad": codec.NotAuthorized}, turnMethod{}}}, func(t *testing.T, h *harness) {
		off := with(codec.RequestProblemInformation, 0)
		loud := h.client(codec.V5, "loud", method("turn", "proof"))
		quiet := h.client(codec.V5, "quiet", off, method("turn", "proof"))
		f := func(packet []byte, want string, tells bool) {
			t.Helper()
			quiet.send(packet)
			quiet.expect(want) // describe shows every property
			loud.send(packet)
			if got := loud.read(); !strings.HasPrefix(got, want) || strings.Contains(got, "ReasonString") != tells {
				t.Errorf("with problem information: got %q, Reason String wanted: %v", got, tells)
			}
		}
		f(publishPacket(codec.V5, "no", "x", 1, 1), "PUBACK 1 87", true)
		f(publishPacket(codec.V5, "no", "x", 2, 2), "PUBREC 2 87", true)
		f(ackPacket(codec.V5, codec.PUBREL, 3, 0), "PUBCOMP 3 92", false)
		f(subscribePacket(codec.V5, 4, filter("no", 0)), "SUBACK 4 [87]", false)
		f(unsubscribePacket(codec.V5, 5, "none"), "UNSUBACK 5 [11]", false)
		f(authPacket(codec.ReAuthenticate, "turn", "proof"), welcomeLine, false)
		// CONNACK and DISCONNECT may, and do.
		p := h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "c", true, off, login("bad", "x")))
		if got := p.read(); !strings.HasPrefix(got, "CONNACK sp=0 87 {ReasonString=") {
			t.Errorf("got %q", got)
		}
	})
}
