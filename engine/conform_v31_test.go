package engine

import (
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// Where MQTT 3.1 differs from 3.1.1.

const v31 = codec.V31

func TestV31FixedHeaderFlags(t *testing.T) {
	covers(t, "M31-flags", "M31-dup0")
	each(t, Options{}, func(t *testing.T, h *harness) {
		h.open(v31, "8A {0001 ('t') 01}", "SUBACK 1 [01]")
		h.open(v31, "AA {0002 ('t')}", "UNSUBACK 2 []")
		h.open(v31, "34 {('t') 0003 'p'} 6A {0003}", "PUBREC 3 00, PUBCOMP 3 00")
		h.open(v31, "C1 00", "PINGRESP")
		h.open(v31, "CF 00", "PINGRESP")
		h.open(v31, "47 {0001} 51 {0001} 78 {0001}", "PUBREL 1 00")
		h.open(v31, "E8 00", "end")
		h.ends(v31, "80 {0001 ('t') 01}", codec.MalformedPacket) // not at QoS 1
		h.ends(v31, "84 {0001 ('t') 01}", codec.MalformedPacket)

		sub := h.client(v31, "sub").subscribed(filter("t", 0))
		h.open(v31, "38 {('t') 'dup'}", "") // DUP with QoS 0
		sub.expect(`PUBLISH q0 r0 d0 "t" "dup"`)
		h.ends(v31, "36 {('t') 0001 'p'}", codec.MalformedPacket)
		// 3.1.1 and 5.0 refuse what 3.1 ignores.
		h.ends(codec.V311, "8A {0001 ('t') 01}", codec.MalformedPacket)
		h.ends(codec.V311, "38 {('t') 'dup'}", codec.MalformedPacket)
	})
}

// 3.1 lets the sender resend on a timer, without a new connection.
func TestV31RepeatsOnOneConnection(t *testing.T) {
	covers(t, "M31-retry", "M31-qos2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		sub := h.client(v31, "sub").subscribed(filter("t", 2))
		pub := h.client(v31, "pub")
		pub.send(wire("34 {('t') 0007 'once'}"))
		sub.expect(`PUBLISH q2 r0 d0 id=1 "t" "once"`) // handed on at PUBLISH
		for range 3 {
			pub.send(wire("3C {('t') 0007 'once'}"))
		}
		pub.expect("PUBREC 7 00", "PUBREC 7 00", "PUBREC 7 00", "PUBREC 7 00")
		pub.send(wire("62 {0007}"))
		pub.send(wire("6A {0007}"))
		pub.expect("PUBCOMP 7 00", "PUBCOMP 7 00")
		sub.expect()
		pub.send(wire("34 {('t') 0007 'next'}")) // the identifier is free again
		sub.expect(`PUBLISH q2 r0 d0 id=2 "t" "next"`)
		pub.expect("PUBREC 7 00")

		pub.send(wire("32 {('t') 0008 'again'} 3A {('t') 0008 'again'}"))
		pub.expect("PUBACK 8 00", "PUBACK 8 00")
		pub.send(wire("82 {0009 ('s') 01} 8A {0009 ('s') 01} A2 {000A ('s')} AA {000A ('s')}"))
		pub.expect("SUBACK 9 [01]", "SUBACK 9 [01]", "UNSUBACK 10 []", "UNSUBACK 10 []")
	})
}

func TestV31ConnectLeniency(t *testing.T) {
	covers(t, "M31-login", "M31-pwd", "M31-willflags")
	login := &loginHook{}
	h := newHarness(t, 1, Options{Hooks: []any{login}})
	f := func(s, want string) {
		t.Helper()
		login.last = hook.Connect{}
		h.first(v31, s, want)
	}
	const taken = "CONNACK sp=0 00"
	for _, flags := range []string{"82", "C2"} {
		f("10 {('MQIsdp') 03 "+flags+" 0000 ('c')}", taken) // the strings are missing
		if l := login.last; l.ClientID != "c" || l.HasUserName || l.HasPassword {
			t.Errorf("flags %s, no strings: %+v", flags, l)
		}
	}
	f("10 {('MQIsdp') 03 C2 0000 ('c') ('user')}", taken) // the password is missing
	if l := login.last; l.UserName != "user" || !l.HasUserName || l.HasPassword {
		t.Errorf("no password: %+v", l)
	}
	f("10 {('MQIsdp') 03 82 0000 ('c') 0005 'use'}", "end") // begun but not finished
	f("10 {('MQIsdp') 03 42 0000 ('c') ('p')}", "end")      // password without user name
	f("10 {('MQIsdp') 03 42 0000 ('c')}", "end")
	f("10 {('MQIsdp') 03 03 0000 ('c')}", taken) // reserved bit
	f("10 {('MQIsdp') 03 0A 0000 ('c')}", taken) // will bits without Will Flag
	f("10 {('MQIsdp') 03 1A 0000 ('c')}", taken)
	f("10 {('MQIsdp') 03 3B 0000 ('c')}", taken)
	f("10 {('MQIsdp') 03 1E 0000 ('c') ('t') ('w')}", "end") // Will QoS 3, with Will Flag
}

func TestV31IgnoredWillFlagsMakeNoWill(t *testing.T) {
	covers(t, "M31-willflags")
	each(t, Options{}, func(t *testing.T, h *harness) {
		watch := h.client(v31, "watch").subscribed(filter("#", 2))
		for _, flags := range []string{"1A", "3A", "01"} {
			h.first(v31, "10 {('MQIsdp') 03 "+flags+" 0000 ('c"+flags+"')}", "CONNACK sp=0 00")
		}
		watch.expect()
	})
}

func TestV31DeniedFilter(t *testing.T) {
	covers(t, "M31-suback")
	denied := rules(func(_ hook.Client, a hook.Action, topic string) bool {
		return a == hook.Subscribe && strings.HasPrefix(topic, "no")
	})
	each(t, Options{Hooks: []any{denied}}, func(t *testing.T, h *harness) {
		h.open(v31, "82 {0001 ('yes') 02}", "SUBACK 1 [02]")
		h.open(v31, "82 {0001 ('no') 00}", "end") // it has no word for a refusal
		h.open(v31, "82 {0001 ('yes') 00 ('no') 00}", "end")
		h.open(v31, "82 {0001 ('a/#/b') 00}", "end")
		h.open(codec.V311, "82 {0001 ('yes') 00 ('no') 00}", "SUBACK 1 [00 80]")
	})
}

func TestV31DeniedPublishIsAcknowledged(t *testing.T) {
	covers(t, "M31-unauthpub")
	denied := rules(func(_ hook.Client, a hook.Action, topic string) bool {
		return a == hook.Publish && strings.HasPrefix(topic, "no")
	})
	each(t, Options{Hooks: []any{denied}}, func(t *testing.T, h *harness) {
		watch := h.client(v31, "watch").subscribed(filter("#", 0))
		pub := h.client(v31, "pub")
		pub.send(publishPacket(v31, "no", "0", 0, 0), publishPacket(v31, "no", "1", 1, 1), publishPacket(v31, "no", "2", 2, 2))
		pub.expect("PUBACK 1 00", "PUBREC 2 00")
		pub.send(ackPacket(v31, codec.PUBREL, 2, 0))
		pub.expect("PUBCOMP 2 00")
		watch.expect()
		pub.send(publishPacket(v31, "yes", "1", 1, 1))
		pub.expect("PUBACK 1 00")
		watch.expect(`PUBLISH q0 r0 d0 "yes" "1"`)
	})
}

func TestV31LongTopicNames(t *testing.T) {
	covers(t, "M31-topiclen")
	each(t, Options{}, func(t *testing.T, h *harness) {
		name := strings.Repeat("n", 32767)
		sub := h.client(v31, "sub").subscribed(filter(name, 1))
		pub := h.client(v31, "pub")
		pub.send(publishPacket(v31, name, "x", 1, 1))
		pub.expect("PUBACK 1 00")
		sub.expect(`PUBLISH q1 r0 d0 id=1 "` + name + `" "x"`)
	})
}
