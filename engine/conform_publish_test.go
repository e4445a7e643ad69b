package engine

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

// deliveryVersions are the versions whose rules for PUBLISH are the same.
var deliveryVersions = []codec.Version{codec.V311, codec.V5}

// refusedTwin sends good, which must be accepted, and then bad, which differs
// from it in what is wrong only: v5 clients are told code, and the connection
// ends.
func refusedTwin(h *harness, v codec.Version, good, bad string, code codec.ReasonCode) {
	h.t.Helper()
	p := h.client(v, "twin")
	b, err := hex.DecodeString(strings.Join(strings.Fields(good), ""))
	if err != nil {
		h.t.Fatal(err)
	}
	p.send(b, pingreq)
	if got := p.all(); len(got) == 0 || got[len(got)-1] != "PINGRESP" || p.closed {
		h.t.Fatalf("%v: %s was not accepted: %q", v, good, got)
	}
	p.hex(bad)
	if v == codec.V5 {
		p.expectEnd(fmt.Sprintf("DISCONNECT %02X", byte(code)))
	} else {
		p.expectEnd()
	}
	p.cut()
}

func TestMalformedPublishEndsTheConnection(t *testing.T) {
	covers(t, "MQTT-3.3.1-2", "MQTT-3.3.1-4", "MQTT-3.3.2-1", "MQTT-3.3.2-2", "MQTT-3.3.2-8", "MQTT-3.3.2-13",
		"MQTT-3.3.2-14", "MQTT-3.3.2-19", "MQTT-3.3.4-6", "U5-3.3.2.3.4-empty")
	h := newHarness(t, 1, Options{})
	f3 := func(good, bad string) { t.Helper(); refusedTwin(h, codec.V311, good, bad, 0) }
	f5 := func(good, bad string, code codec.ReasonCode) { t.Helper(); refusedTwin(h, codec.V5, good, bad, code) }

	// DUP with QoS 0
	f3("30 06 0003612f62 78", "38 06 0003612f62 78")
	f5("30 07 0003612f62 00 78", "38 07 0003612f62 00 78", codec.MalformedPacket)
	// QoS 3
	f3("34 08 0003612f62 0001 78", "36 08 0003612f62 0002 78")
	f5("34 09 0003612f62 0001 00 78", "36 09 0003612f62 0002 00 78", codec.MalformedPacket)
	// the topic name ends outside the packet, is not UTF-8, is a surrogate, has a NUL
	f3("30 06 0003612f62 78", "30 06 0005612f62 78")
	f3("30 06 0003612f62 78", "30 06 0003612fff 78")
	f3("30 06 0003612f62 78", "30 06 0003eda080 78")
	f3("30 06 0003612f62 78", "30 06 000361002f 78")
	f5("30 07 0003612f62 00 78", "30 07 0006612f62 00 78", codec.MalformedPacket)
	f5("30 07 0003612f62 00 78", "30 07 0003612fff 00 78", codec.MalformedPacket)
	f5("30 07 0003612f62 00 78", "30 07 0003eda080 00 78", codec.MalformedPacket)
	f5("30 07 0003612f62 00 78", "30 07 000361002f 00 78", codec.MalformedPacket)
	// wildcards
	f3("30 06 0003612f62 78", "30 06 0003612f2b 78")
	f3("30 06 0003612f62 78", "30 06 0003612f23 78")
	f5("30 07 0003612f62 00 78", "30 07 0003612f2b 00 78", codec.TopicNameInvalid)
	f5("30 07 0003612f62 00 78", "30 07 0003612f23 00 78", codec.TopicNameInvalid)
	// Topic Alias 0
	f5("30 0a 0003612f62 03 230001 78", "30 0a 0003612f62 03 230000 78", codec.TopicAliasInvalid)
	// Response Topic: not UTF-8, wildcards
	f5("30 0b 0003612f62 04 08000172 78", "30 0b 0003612f62 04 080001ff 78", codec.MalformedPacket)
	f5("30 0b 0003612f62 04 08000172 78", "30 0b 0003612f62 04 08000123 78", codec.ProtocolError)
	f5("30 0b 0003612f62 04 08000172 78", "30 0b 0003612f62 04 0800012b 78", codec.ProtocolError)
	// Content Type: not UTF-8
	f5("30 0b 0003612f62 04 03000172 78", "30 0b 0003612f62 04 030001ff 78", codec.MalformedPacket)
	// Subscription Identifier from a client
	f5("30 09 0003612f62 02 0101 78", "30 09 0003612f62 02 0b07 78", codec.ProtocolError)
	// empty topic name: no alias, an alias that was never set
	f5("30 0a 0003612f62 03 230001 78", "30 04 0000 00 78", codec.ProtocolError)
	f5("30 0a 0003612f62 03 230001 78", "30 07 0000 03 230003 78", codec.ProtocolError)
	f3("30 06 0003612f62 78", "30 03 0000 78")
}

func TestSubscriptionIdentifierZeroIsAProtocolError(t *testing.T) {
	covers(t, "U5-3.3.2.3.8")
	h := newHarness(t, 1, Options{})
	refusedTwin(h, codec.V5, "82 0b 0001 02 0b01 0003612f62 00", "82 0b 0002 02 0b00 0003612f62 00", codec.ProtocolError)
	largest := "82 0e 0001 05 0bffffff7f 0003612f62 00"
	refusedTwin(h, codec.V5, largest, "82 0f 0001 06 0bffffffff01 0003612f62 00", codec.MalformedPacket)
	sub := h.client(codec.V5, "sub")
	sub.hex(largest)
	sub.expect("SUBACK 1 [00]")
	h.client(codec.V5, "pub").send(publishPacket(codec.V5, "a/b", "x", 0, 0))
	sub.expect(`PUBLISH q0 r0 d0 "a/b" "x" {SubscriptionIdentifier=268435455}`)
}

func TestDupOfThePublisherIsNotPassedOn(t *testing.T) {
	covers(t, "MQTT-3.3.1-2", "MQTT-3.3.1-3", "MQTT-4.3.1-1", "MQTT-4.3.2-2", "MQTT-4.3.3-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range deliveryVersions {
			s0 := h.client(v, "s0").subscribed(filter("a/b", 0))
			s2 := h.client(v, "s2").subscribed(filter("a/b", 2))
			pub := h.client(v, "pub")
			pub.send(publishPacket(v, "a/b", "one", 1, 1, dup))
			pub.send(publishPacket(v, "a/b", "two", 2, 2, dup))
			s0.expect(`PUBLISH q0 r0 d0 "a/b" "one"`, `PUBLISH q0 r0 d0 "a/b" "two"`)
			s2.expect(`PUBLISH q1 r0 d0 id=1 "a/b" "one"`, `PUBLISH q2 r0 d0 id=2 "a/b" "two"`)
		}
	})
}

func TestDeliveredTopicIsThePublishers(t *testing.T) {
	covers(t, "MQTT-3.3.2-3")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range deliveryVersions {
			s := h.client(v, "s").subscribed(filter("a/#", 0))
			u := h.client(v, "u").subscribed(filter("+/b", 0), filter("other", 0))
			pub := h.client(v, "pub")
			pub.send(publishPacket(v, "a/b", "x", 0, 0), publishPacket(v, "a", "y", 0, 0), publishPacket(v, "b/a", "z", 0, 0))
			s.expect(`PUBLISH q0 r0 d0 "a/b" "x"`, `PUBLISH q0 r0 d0 "a" "y"`)
			u.expect(`PUBLISH q0 r0 d0 "a/b" "x"`)
		}
	})
}

func TestEveryAliasUpToTheMaximumIsAccepted(t *testing.T) {
	covers(t, "MQTT-3.3.2-12")
	each(t, Options{}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub").subscribed(filter("#", 0))
		pub := h.client(codec.V5, "pub")
		for a := uint16(1); a <= defaultTopicAliases; a++ {
			name := fmt.Sprintf("t/%d", a)
			pub.send(publishPacket(codec.V5, name, "define", 0, 0, alias(a)))
			sub.expect(fmt.Sprintf(`PUBLISH q0 r0 d0 %q "define"`, name))
		}
		for a := uint16(1); a <= defaultTopicAliases; a++ {
			pub.send(publishPacket(codec.V5, "", "use", 0, 0, alias(a)))
			sub.expect(fmt.Sprintf(`PUBLISH q0 r0 d0 "t/%d" "use"`, a))
		}
		pub.send(publishPacket(codec.V5, "new", "define", 0, 0, alias(10)), publishPacket(codec.V5, "", "use", 0, 0, alias(10)))
		sub.expect(`PUBLISH q0 r0 d0 "new" "define"`, `PUBLISH q0 r0 d0 "new" "use"`)
		pub.send(publishPacket(codec.V5, "t", "x", 0, 0, alias(11)))
		pub.expectEnd("DISCONNECT 94")
		sub.expect()
	})
}

func TestAliasesEndWithTheConnection(t *testing.T) {
	covers(t, "MQTT-3.3.2-7")
	each(t, Options{}, func(t *testing.T, h *harness) {
		sub := h.client(codec.V5, "sub", keepFor(100), with(codec.TopicAliasMaximum, 5)).subscribed(filter("#", 0))
		pub := h.client(codec.V5, "pub", keepFor(100))
		pub.send(publishPacket(codec.V5, "a/b", "x", 0, 0, alias(1)), publishPacket(codec.V5, "", "y", 0, 0, alias(1)))
		sub.expect(`PUBLISH q0 r0 d0 "a/b" "x" alias=1`, `PUBLISH q0 r0 d0 "" "y" alias=1`)
		pub.cut()
		sub.cut()
		sub = h.back(codec.V5, "sub", keepFor(100), with(codec.TopicAliasMaximum, 5))
		h.client(codec.V5, "other").send(publishPacket(codec.V5, "a/b", "z", 0, 0))
		sub.expect(`PUBLISH q0 r0 d0 "a/b" "z" alias=1`)
		pub = h.back(codec.V5, "pub")
		pub.send(publishPacket(codec.V5, "", "y", 0, 0, alias(1)))
		pub.expectEnd("DISCONNECT 82")
		sub.expect()
	})
}

func TestServerAliasesStayWithinTheClientsMaximum(t *testing.T) {
	covers(t, "MQTT-3.3.2-11", "MQTT-3.3.2-8")
	each(t, Options{}, func(t *testing.T, h *harness) {
		none := h.client(codec.V5, "none").subscribed(filter("#", 0))
		two := h.client(codec.V5, "two", with(codec.TopicAliasMaximum, 2)).subscribed(filter("#", 0))
		pub := h.client(codec.V5, "pub")
		for range 2 {
			for _, name := range []string{"a", "b", "c"} {
				pub.send(publishPacket(codec.V5, name, "x", 0, 0))
				none.expect(fmt.Sprintf(`PUBLISH q0 r0 d0 %q "x"`, name))
			}
		}
		two.expect(`PUBLISH q0 r0 d0 "a" "x" alias=1`, `PUBLISH q0 r0 d0 "b" "x" alias=2`, `PUBLISH q0 r0 d0 "c" "x"`,
			`PUBLISH q0 r0 d0 "" "x" alias=1`, `PUBLISH q0 r0 d0 "" "x" alias=2`, `PUBLISH q0 r0 d0 "c" "x"`)
	})
}

func TestAliasesOfBothDirectionsAreIndependent(t *testing.T) {
	covers(t, "U5-3.3.2.3.4-dir")
	each(t, Options{}, func(t *testing.T, h *harness) {
		p := h.client(codec.V5, "p", with(codec.TopicAliasMaximum, 5)).subscribed(filter("#", 0))
		other := h.client(codec.V5, "other")
		other.send(publishPacket(codec.V5, "a/b", "1", 0, 0))
		p.expect(`PUBLISH q0 r0 d0 "a/b" "1" alias=1`)
		p.send(publishPacket(codec.V5, "own", "2", 0, 0, alias(1)))
		p.expect(`PUBLISH q0 r0 d0 "own" "2" alias=2`)
		p.send(publishPacket(codec.V5, "", "3", 0, 0, alias(1)))
		p.expect(`PUBLISH q0 r0 d0 "" "3" alias=2`)
		other.send(publishPacket(codec.V5, "a/b", "4", 0, 0))
		p.expect(`PUBLISH q0 r0 d0 "" "4" alias=1`)
		p.send(publishPacket(codec.V5, "c", "5", 0, 0, alias(1)), publishPacket(codec.V5, "", "6", 0, 0, alias(1)))
		p.expect(`PUBLISH q0 r0 d0 "c" "5" alias=3`, `PUBLISH q0 r0 d0 "" "6" alias=3`)
	})
}

func TestPayloadFormatIsCheckedWhereSwitchedOn(t *testing.T) {
	covers(t, "U5-3.3.2.3.2")
	claim := codec.AppendUint(nil, codec.PayloadFormatIndicator, 1)
	for _, check := range []bool{false, true} {
		h := newHarness(t, 1, Options{CheckPayloadFormat: check})
		sub := h.client(codec.V5, "sub").subscribed(filter("#", 0))
		pub := h.client(codec.V5, "pub")
		pub.send(publishWith("t", "\xff", 1, 1, claim), publishWith("t", "\xff", 2, 2, claim), publishWith("t", "\xff", 0, 0, claim))
		if !check {
			pub.expect("PUBACK 1 00", "PUBREC 2 00")
			if got := len(sub.all()); got != 3 {
				t.Errorf("%d messages, want 3: nobody checks", got)
			}
			continue
		}
		expectAcks(pub, "PUBACK 1 99", "PUBREC 2 99")
		sub.expect()
		pub.send(publishWith("t", "ü", 1, 3, claim), publishWith("t", "\xff", 1, 4, nil))
		pub.expect("PUBACK 3 00", "PUBACK 4 00")
		if got := len(sub.all()); got != 2 {
			t.Errorf("%d messages, want 2", got)
		}
	}
}

// expectAcks is expect without the properties of what comes.
func expectAcks(p *peer, want ...string) {
	p.h.t.Helper()
	got := p.all()
	for i := range got {
		got[i], _, _ = strings.Cut(got[i], " {")
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || p.closed {
		p.h.t.Fatalf("got %q, want %q, closed %v", got, want, p.closed)
	}
}
