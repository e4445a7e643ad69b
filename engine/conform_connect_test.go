package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// Section 3.1, CONNECT: format and the checks before CONNACK.

func TestFirstPacketIsConnect(t *testing.T) {
	covers(t, "MQTT-3.1.0-1")
	h := newHarness(t, 1, Options{})
	for _, s := range []string{
		"C0 00", "30 {('t') {} 'p'}", "30 {('t') 'p'}", "F0 {18 {15 ('m')}}", "82 {0001 ('f') 00}", "E0 00", "20 {00 00}", "40 {0001}",
	} {
		h.first(codec.V5, s, "end")
		h.first(codec.V5, s+" 10 {('MQTT') 05 02 0000 {} ('c')}", "end") // too late
	}
	for _, first := range []string{"30", "32", "82", "A2", "40", "62", "F0", "00", "20"} { // even if it reads like one
		h.first(codec.V5, first+" {('MQTT') 05 02 0000 {} ('c')}", "end")
		h.first(codec.V311, first+" {('MQTT') 04 02 0000 ('c')}", "end")
	}
	p := h.dial(codec.V5) // nothing but the first byte of a header yet
	p.send(wire("C0"))
	if p.closed {
		t.Error("closed before the header was there")
	}
	p.send(wire("00"))
	p.expectEnd()
}

func TestSecondConnectEndsTheConnection(t *testing.T) {
	covers(t, "MQTT-3.1.0-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			for _, id := range []string{"same", "other"} {
				p := h.client(v, "same")
				p.send(connectPacket(v, id, true))
				if v == codec.V5 {
					p.expectEnd("DISCONNECT 82")
				} else {
					p.expectEnd()
				}
				p = h.dial(v) // both in one segment
				p.send(connectPacket(v, "same", true), connectPacket(v, id, true))
				p.expectConnack(false)
				if got := p.taken(); !strings.HasSuffix(got, "end") || strings.Contains(got, "CONNACK") {
					t.Errorf("version %v: got %q after CONNACK, want the end", v, got)
				}
			}
		}
	})
}

func TestProtocolNameAndVersion(t *testing.T) {
	covers(t, "MQTT-3.1.2-1", "MQTT-3.1.2-2", "M31-name", "M31-bridge")
	h := newHarness(t, 1, Options{})
	f := func(v codec.Version, name, level, want string) {
		t.Helper()
		properties := ""
		if v == codec.V5 {
			properties = "{}"
		}
		h.first(v, "10 {("+name+") "+level+" 02 0000 "+properties+" ('c')}", want)
	}
	for _, name := range []string{"'mqtt'", "'MQTX'", "", "'MQTTX'", "'MQT'", "'mqisdp'", "'MQIsdq'", "00"} {
		f(codec.V5, name, "05", "end")
		f(codec.V311, name, "04", "end")
		f(codec.V31, name, "03", "end")
	}
	f(codec.V5, "'MQTT'", "05", "CONNACK sp=0 00")
	f(codec.V311, "'MQTT'", "04", "CONNACK sp=0 00")
	f(codec.V31, "'MQIsdp'", "03", "CONNACK sp=0 00")
	for _, level := range []string{"06", "7F", "FF"} {
		f(codec.V5, "'MQTT'", level, "CONNACK sp=0 84, end")
	}
	for _, level := range []string{"00", "03"} {
		f(codec.V311, "'MQTT'", level, "CONNACK sp=0 01, end")
	}
	f(codec.V311, "'MQIsdp'", "04", "CONNACK sp=0 01, end")
	f(codec.V5, "'MQIsdp'", "05", "CONNACK sp=0 84, end")
	f(codec.V311, "'MQIsdp'", "83", "CONNACK sp=0 01, end") // a bridge's bit
	f(codec.V311, "'MQTT'", "84", "CONNACK sp=0 01, end")
}

func TestConnectFlags(t *testing.T) {
	covers(t, "MQTT-3.1.2-3", "MQTT-3.1.2-11", "MQTT-3.1.2-12", "MQTT-3.1.2-13", "311:MQTT-3.1.2-22")
	h := newHarness(t, 1, Options{})
	plain := func(flags string, v311, v5 string) {
		t.Helper()
		h.first(codec.V311, "10 {('MQTT') 04 "+flags+" 0000 ('c')}", v311)
		h.first(codec.V5, "10 {('MQTT') 05 "+flags+" 0000 {} ('c')}", v5)
	}
	const bad, good = "CONNACK sp=0 81, end", "CONNACK sp=0 00"
	plain("02", good, good)
	h.first(codec.V5, "10 {('MQTT') 05 00 0000 {} ('c')}", good)
	plain("03", "end", bad) // reserved
	plain("01", "end", bad)
	plain("0A", "end", bad) // Will QoS without Will Flag
	plain("12", "end", bad)
	plain("1A", "end", bad)
	plain("22", "end", bad) // Will Retain without Will Flag
	will := func(flags string, v311, v5 string) {
		t.Helper()
		h.first(codec.V311, "10 {('MQTT') 04 "+flags+" 0000 ('c') ('t') ('w')}", v311)
		h.first(codec.V5, "10 {('MQTT') 05 "+flags+" 0000 {} ('c') {} ('t') ('w')}", v5)
	}
	will("06", good, good)
	will("0E", good, good)
	will("16", good, good)
	will("36", good, good)
	will("1E", "end", bad) // Will QoS 3
	will("3E", "end", bad)
	h.first(codec.V311, "10 {('MQTT') 04 42 0000 ('c') ('secret')}", "end") // password alone
	h.first(codec.V5, "10 {('MQTT') 05 42 0000 {} ('c') ('secret')}", good)
}

// The fields that the flags announce are there, and no others.
func TestConnectPayloadIsAsTheFlagsSay(t *testing.T) {
	covers(t, "MQTT-3.1.2-9", "MQTT-3.1.2-16", "MQTT-3.1.2-17", "MQTT-3.1.2-18", "MQTT-3.1.2-19", "MQTT-3.1.3-3", "MQTT-3.1.4-1")
	h := newHarness(t, 1, Options{})
	f := func(flags, v311, v5 string) {
		t.Helper()
		h.first(codec.V311, "10 {('MQTT') 04 "+flags+" 0000 "+v311+"}", "end")
		h.first(codec.V5, "10 {('MQTT') 05 "+flags+" 0000 {} "+v5+"}", "CONNACK sp=0 81, end")
	}
	f("02", "", "")                                           // no client identifier
	f("02", "00", "00")                                       // half its length
	f("06", "('c')", "('c')")                                 // no will
	f("06", "('c') ('t')", "('c') {} ('t')")                  // no Will Payload
	f("06", "('c') ('t') 00", "('c') {}")                     //
	f("82", "('c')", "('c')")                                 // no user name
	f("82", "('c') 0004 'use'", "('c') 0004 'use'")           //
	f("C2", "('c') ('user')", "('c') ('user')")               // no password
	f("C2", "('c') ('user') 0002 'p'", "('c') ('user') 0009") //
	f("02", "('c') ('user')", "('c') ('user')")               // User Name Flag 0
	f("82", "('c') ('user') ('p')", "('c') ('user') ('p')")   // Password Flag 0
	f("06", "('c') ('t') ('w') ('u')", "('c') {} ('t') ('w') ('u')")
	// Whatever is cut off a good packet leaves a bad one.
	whole := wire("('MQTT') 05 C6 000A {11 00000005} ('c') {18 00000001} ('t') ('w') ('u') ('p')")
	for n := range len(whole) {
		want := "CONNACK sp=0 81, end"
		if n < len("\x00\x04MQTT\x05") {
			want = "end" // no version to answer in
		}
		h.first(codec.V5, fmt.Sprintf("10 {%X}", whole[:n]), want)
	}
	h.first(codec.V5, fmt.Sprintf("10 {%X}", whole), "CONNACK sp=0 00")
}

// A loginHook lets in who knows the password and remembers what it was told.
type loginHook struct {
	last     hook.Connect
	password string
}

func (l *loginHook) Authenticate(c *hook.Connect) codec.ReasonCode {
	l.last = *c
	if l.password != "" && string(c.Password) != l.password {
		return codec.BadUserNameOrPassword
	}
	return codec.Success
}

func TestConnectPayloadOrder(t *testing.T) {
	covers(t, "MQTT-3.1.3-1", "MQTT-3.1.3-12")
	for _, loops := range []int{1, 3} {
		login := &loginHook{}
		h := newHarness(t, loops, Options{Hooks: []any{login}})
		sub := h.client(codec.V5, "sub").subscribed(filter("will/topic", 0))
		f := func(v codec.Version, s string) {
			t.Helper()
			p := h.dial(v)
			p.send(wire(s))
			p.expectConnack(false)
			p.cut()
			if l := login.last; l.ClientID != "client" || l.UserName != "user" || string(l.Password) != "\xFF\xFE" {
				t.Errorf("version %v: connected as %q, %q, %q", v, l.ClientID, l.UserName, l.Password)
			}
			want := `PUBLISH q0 r0 d0 "will/topic" "payload"`
			if v == codec.V5 {
				want += ` {ContentType="text"}`
			}
			sub.expect(want)
		}
		f(codec.V31, "10 {('MQIsdp') 03 C6 0000 ('client') ('will/topic') ('payload') ('user') (FF FE)}")
		f(codec.V311, "10 {('MQTT') 04 C6 0000 ('client') ('will/topic') ('payload') ('user') (FF FE)}")
		f(codec.V5, "10 {('MQTT') 05 C6 0000 {} ('client') {03 ('text')} ('will/topic') ('payload') ('user') (FF FE)}")
		h.first(codec.V311, "10 {('MQTT') 04 C2 0000 ('client') (FF FE) ('user')}", "end") // user name is no UTF-8
		h.first(codec.V5, "10 {('MQTT') 05 C2 0000 {} ('client') (FF FE) ('user')}", "CONNACK sp=0 81, end")
	}
}

func TestWillTopicIsATopicName(t *testing.T) {
	covers(t, "MQTT-3.1.3-11", "U5-3.1.3.3")
	h := newHarness(t, 1, Options{})
	f := func(topic, v5 string) {
		t.Helper()
		h.first(codec.V31, "10 {('MQIsdp') 03 06 0000 ('c') "+topic+" ('w')}", "end")
		h.first(codec.V311, "10 {('MQTT') 04 06 0000 ('c') "+topic+" ('w')}", "end")
		h.first(codec.V5, "10 {('MQTT') 05 06 0000 {} ('c') {} "+topic+" ('w')}", v5)
	}
	f("('a' ED A0 80)", "CONNACK sp=0 81, end")
	f("('a' 00)", "CONNACK sp=0 81, end")
	f("()", "CONNACK sp=0 82, end")
	f("('a/#')", "CONNACK sp=0 90, end")
	f("('a/+')", "CONNACK sp=0 90, end")
	f("('+')", "CONNACK sp=0 90, end")
}

func TestPropertyValuesOfConnect(t *testing.T) {
	covers(t, "U5-3.1.2.11.3", "U5-3.1.2.11.4", "U5-3.1.2.11.6", "U5-3.1.2.11.7", "U5-3.1.2.11.10")
	h := newHarness(t, 1, Options{})
	f := func(property, want string) {
		t.Helper()
		h.first(codec.V5, "10 {('MQTT') 05 02 0000 {"+property+"} ('c')}", want)
	}
	const refused, taken = "CONNACK sp=0 82, end", "CONNACK sp=0 00"
	f("21 0000", refused) // Receive Maximum
	f("21 0001", taken)
	f("27 00000000", refused) // Maximum Packet Size
	f("27 00000040", taken)
	f("19 02", refused) // Request Response Information
	f("19 FF", refused)
	f("19 00", taken)
	f("19 01", taken)
	f("17 02", refused) // Request Problem Information
	f("17 FF", refused)
	f("17 00", taken)
	f("17 01", taken)
	f("16 ('data')", refused) // Authentication Data alone

	// Absent: no limit, 65535, and reasons are told.
	sub := h.client(codec.V5, "sub").subscribed(filter("t", 1))
	pub := h.client(codec.V5, "pub")
	long := strings.Repeat("x", 1<<19)
	pub.send(publishPacket(codec.V5, "t", long, 1, 1))
	sub.expect(`PUBLISH q1 r0 d0 id=1 "t" "` + long + `"`)
	pub.expect("PUBACK 1 00")
	h = newHarness(t, 1, Options{MaxInflight: 65535})
	sub = h.client(codec.V5, "sub").subscribed(filter("t", 1))
	pub = h.client(codec.V5, "pub")
	for range 1000 {
		pub.send(publishPacket(codec.V5, "t", "", 1, 1))
	}
	if n := len(sub.all()); n != 1000 {
		t.Errorf("%d messages without an acknowledgement, want all 1000", n)
	}
}

func TestMaximumPacketSizeCountsTheHeader(t *testing.T) {
	covers(t, "U5-3.1.2.11.4")
	h := newHarness(t, 1, Options{})
	sub := h.client(codec.V5, "sub", with(codec.MaximumPacketSize, 64)).subscribed(filter("t", 0))
	pub := h.client(codec.V5, "pub")
	for n := 56; n <= 60; n++ { // header 2, topic 3, Property Length 1
		pub.send(publishPacket(codec.V5, "t", strings.Repeat("x", n), 0, 0))
		if n <= 58 {
			sub.expect(`PUBLISH q0 r0 d0 "t" "` + strings.Repeat("x", n) + `"`)
		} else {
			sub.expect()
		}
	}
}

func TestConnectDeadline(t *testing.T) {
	covers(t, "U5-3.1.4-wait")
	each(t, Options{ConnectTimeout: 5 * time.Second}, func(t *testing.T, h *harness) {
		silent := h.dial(codec.V5)
		half := h.dial(codec.V5)
		half.send(wire("10 20 ('MQTT') 05 02"))
		slow := h.dial(codec.V5) // a byte now and then does not help
		good := h.client(codec.V5, "good")
		for _, b := range wire("10 {('MQTT') 05 02 0000 {} ('slow')}")[:9] {
			slow.send([]byte{b})
			h.advance(time.Second / 2)
		}
		slow.expect() // 4.5 s
		h.advance(time.Second)
		silent.expectEnd()
		half.expectEnd()
		slow.expectEnd()
		good.expect()
	})
}

func TestPacketsBehindConnectAreHandled(t *testing.T) {
	covers(t, "U5-3.1.4-early")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			p := h.dial(v)
			p.send(connectPacket(v, "early", true), subscribePacket(v, 1, filter("t", 0)), publishPacket(v, "t", "x", 1, 2))
			p.expect(connackLine(v, false), "SUBACK 1 [00]", `PUBLISH q0 r0 d0 "t" "x"`, "PUBACK 2 00")
			p.cut()
			// With a session that is on another loop, and with its bytes one by one.
			h.client(v, "kept", keepFor(60)).cut()
			p = h.dial(v)
			all := connectPacket(v, "kept", true)
			all = append(all, subscribePacket(v, 1, filter("t", 0))...)
			all = append(all, publishPacket(v, "t", "y", 1, 2)...)
			for i := range all {
				p.post(all[i : i+1])
			}
			h.run()
			p.expect(connackLine(v, false), "SUBACK 1 [00]", `PUBLISH q0 r0 d0 "t" "y"`, "PUBACK 2 00")
			p.cut()
		}
	})
}
