package engine

import (
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

// Section 1.5, data representation.

// stringPlaces are packets with a string in place of @: first bytes of a
// connection, and on an open one.
var firstStrings = map[codec.Version][]string{
	codec.V31: {
		"10 {('MQIsdp') 03 02 0000 @}",
		"10 {('MQIsdp') 03 06 0000 ('c') @ ('will')}",
		"10 {('MQIsdp') 03 82 0000 ('c') @}",
	},
	codec.V311: {
		"10 {('MQTT') 04 02 0000 @}",
		"10 {('MQTT') 04 06 0000 ('c') @ ('will')}",
		"10 {('MQTT') 04 82 0000 ('c') @}",
	},
	codec.V5: {
		"10 {('MQTT') 05 02 0000 {} @}",
		"10 {('MQTT') 05 06 0000 {} ('c') {} @ ('will')}",
		"10 {('MQTT') 05 82 0000 {} ('c') @}",
		"10 {('MQTT') 05 02 0000 {15 @} ('c')}",
		"10 {('MQTT') 05 02 0000 {26 @ ('v')} ('c')}",
		"10 {('MQTT') 05 02 0000 {26 ('n') @} ('c')}",
		"10 {('MQTT') 05 06 0000 {} ('c') {03 @} ('t') ('will')}",
		"10 {('MQTT') 05 06 0000 {} ('c') {08 @} ('t') ('will')}",
		"10 {('MQTT') 05 06 0000 {} ('c') {26 ('n') @} ('t') ('will')}",
	},
}

var openStrings = map[codec.Version][]string{
	codec.V31:  {"30 {@ 'p'}", "32 {@ 0001 'p'}", "82 {0001 @ 00}", "A2 {0001 @}"},
	codec.V311: {"30 {@ 'p'}", "32 {@ 0001 'p'}", "82 {0001 @ 00}", "A2 {0001 @}"},
	codec.V5: {
		"30 {@ {} 'p'}", "32 {@ 0001 {} 'p'}", "82 {0001 {} @ 00}", "A2 {0001 {} @}",
		"30 {('t') {03 @} 'p'}", "30 {('t') {08 @} 'p'}",
		"30 {('t') {26 @ ('v')} 'p'}", "30 {('t') {26 ('n') @} 'p'}",
		"82 {0001 {26 @ ('v')} ('f') 00}", "82 {0001 {26 ('n') @} ('f') 00}",
		"A2 {0001 {26 @ ('v')} ('f')}", "A2 {0001 {26 ('n') @} ('f')}",
		"40 {0001 00 {1F @}}", "50 {0001 00 {1F @}}", "62 {0001 00 {1F @}}", "70 {0001 00 {1F @}}",
		"40 {0001 00 {26 @ ('v')}}", "40 {0001 00 {26 ('n') @}}",
		"E0 {00 {1F @}}", "E0 {00 {26 @ ('v')}}", "E0 {00 {26 ('n') @}}",
		"F0 {18 {15 @}}", "F0 {18 {15 ('m') 1F @}}",
	},
}

func TestIllFormedStringsAreRefused(t *testing.T) {
	covers(t, "MQTT-1.5.4-1", "MQTT-1.5.4-2", "MQTT-1.5.7-1", "M31-utf", "MQTT-3.1.3-4")
	h := newHarness(t, 1, Options{})
	for _, bad := range []string{
		"(ED A0 80)",     // surrogate U+D800
		"('a' ED BF BF)", // surrogate U+DFFF
		"(C0 AF)",        // '/' in two bytes
		"(E0 80 AF)",     // '/' in three bytes
		"('a' C3)",       // ends inside a character
		"(F4 90 80 80)",  // above U+10FFFF
		"(80)",           // begins inside a character
		"(FF)",
		"(00)", // NUL
		"('abcdefgh' 00 'i')",
	} {
		for _, v := range versions {
			for _, s := range firstStrings[v] {
				want := "end"
				if v == codec.V5 {
					want = "CONNACK sp=0 81, end"
				}
				h.first(v, strings.ReplaceAll(s, "@", bad), want)
			}
			for _, s := range openStrings[v] {
				h.ends(v, strings.ReplaceAll(s, "@", bad), codec.MalformedPacket)
			}
		}
	}
}

// A string that is cut off by the end of the packet.
func TestTruncatedStringsAreRefused(t *testing.T) {
	covers(t, "MQTT-1.5.4-1")
	h := newHarness(t, 1, Options{})
	for _, v := range versions {
		h.ends(v, "30 {0005 'abcd'}", codec.MalformedPacket)
		h.ends(v, "30 {00}", codec.MalformedPacket)
	}
}

func TestByteOrderMarkIsOrdinary(t *testing.T) {
	covers(t, "MQTT-1.5.4-3")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			marked := h.client(v, "marked").subscribed(filter("\uFEFFa", 0))
			plain := h.client(v, "plain").subscribed(filter("a", 0))
			inside := h.client(v, "inside").subscribed(filter("a\uFEFFb", 0))
			pub := h.client(v, "pub")
			pub.send(publishPacket(v, "\uFEFFa", "1", 0, 0), publishPacket(v, "a\uFEFFb", "2", 0, 0))
			if v == codec.V5 {
				marked.expectBytes("30 {(EFBBBF 61) {} '1'}")
			} else {
				marked.expectBytes("30 {(EFBBBF 61) '1'}")
			}
			inside.expect(`PUBLISH q0 r0 d0 "a\ufeffb" "2"`)
			plain.expect()
			marked.expect()
		}
	})
}

// Control characters and non-characters are accepted: a choice the standard leaves open.
func TestControlCharactersAreAccepted(t *testing.T) {
	covers(t, "U5-1.5.4-ctl")
	h := newHarness(t, 1, Options{})
	for _, v := range versions {
		for _, name := range []string{"a\x01", "a\x07", "a\x1F", "a\x7F", "a\u0085", "a\uFFFF", "a\U0001FFFE"} {
			sub := h.client(v, "sub").subscribed(filter(name, 0))
			h.client(v, "pub").send(publishPacket(v, name, "x", 0, 0))
			if f := sub.frame(); f == nil || !strings.Contains(string(f), name) {
				t.Errorf("version %v: a message on %q did not arrive: % x", v, name, f)
			}
		}
	}
}

func TestBinaryFieldsOfAnyLength(t *testing.T) {
	covers(t, "U5-1.5.6")
	long := strings.Repeat("FF00", 32767) + "FF"
	each(t, Options{MaximumConnectSize: 160 << 10}, func(t *testing.T, h *harness) {
		v4, v5 := codec.V311, codec.V5
		for _, s := range []string{"()", "(" + long + ")"} {
			h.first(v4, "10 {('MQTT') 04 C2 0000 ('c') ('user') "+s+"}", "CONNACK sp=0 00")
			h.first(v5, "10 {('MQTT') 05 42 0000 {} ('c') "+s+"}", "CONNACK sp=0 00")
			h.first(v5, "10 {('MQTT') 05 C6 0000 {} ('c') {} ('t') "+s+" ('user') "+s+"}", "CONNACK sp=0 00")

			sub := h.client(v5, "sub").subscribed(filter("t/#", 0))
			p := h.dial(v4)
			p.send(wire("10 {('MQTT') 04 06 0000 ('w') ('t/w') " + s + "}"))
			p.expectConnack(false)
			p.cut()
			sub.expectBytes("30 {('t/w') {} " + s[1:len(s)-1] + "}")
			h.open(v5, "30 {('t/c') {09 "+s+"} 'p'}", "")
			sub.expectBytes("30 {('t/c') {09 " + s + "} 'p'}")
		}
		h.first(v4, "10 {('MQTT') 04 C2 0000 ('c') ('user') 0005 'pass'}", "end")
		h.first(v5, "10 {('MQTT') 05 42 0000 {} ('c') 0005 'pass'}", "CONNACK sp=0 81, end")
		h.first(v5, "10 {('MQTT') 05 06 0000 {} ('c') {} ('t') FFFF 'will'}", "CONNACK sp=0 81, end")
		h.ends(v5, "30 {('t') {09 0005 'data'} 'p'}", codec.MalformedPacket)
	})
}

func TestVariableByteIntegers(t *testing.T) {
	covers(t, "MQTT-1.5.5-1", "U5-1.5.5")
	h := newHarness(t, 1, Options{})
	for _, v := range versions {
		h.ends(v, "C0 80 00", codec.MalformedPacket) // Remaining Length, longer than need be
		h.ends(v, "30 87 80 00 0001 't' 'pay'", codec.MalformedPacket)
		h.ends(v, "30 FF FF FF FF 01", codec.MalformedPacket) // a fifth byte
		h.ends(v, "30 FF FF FF FF", codec.MalformedPacket)    // four that say there is a fifth
		h.ends(v, "30 FF FF FF 7F", codec.PacketTooLarge)     // 268,435,455: well formed
	}
	h.first(codec.V5, "10 FF FF FF FF 01", "end")
	h.first(codec.V5, "10 90 00 ('MQTT') 05 02 0000 {} ('c') ", "end")
	h.first(codec.V5, "10 {('MQTT') 05 02 0000 80 00 ('c')}", "CONNACK sp=0 81, end")
	h.ends(codec.V5, "30 {('t') 80 00 'p'}", codec.MalformedPacket)
	h.ends(codec.V5, "30 {('t') FF FF FF FF 01 'p'}", codec.MalformedPacket)
	h.ends(codec.V5, "82 {0001 {0B 81 00} ('f') 00}", codec.MalformedPacket)
	h.ends(codec.V5, "82 {0001 {0B FF FF FF FF 01} ('f') 00}", codec.MalformedPacket)
	h.open(codec.V5, "82 {0001 {0B FF FF FF 7F} ('f') 00}", "SUBACK 1 [00]")
}

// The broker's own integers take the fewest bytes.
func TestLengthsAreShort(t *testing.T) {
	covers(t, "MQTT-1.5.5-1", "U5-1.5.5")
	h := newHarness(t, 1, Options{})
	f := func(remaining int, want string) {
		t.Helper()
		sub := h.client(codec.V311, "sub").subscribed(filter("t", 0))
		h.client(codec.V311, "pub").send(publishPacket(codec.V311, "t", strings.Repeat("x", remaining-3), 0, 0))
		got := sub.frame()
		n := len(want) / 2
		if len(got) != n+remaining || string(got[:n]) != string(wire(want)) {
			t.Errorf("Remaining Length %d: % X of %d bytes, want %s", remaining, got[:min(n, len(got))], len(got), want)
		}
	}
	f(127, "307F")
	f(128, "308001")
	f(16383, "30FF7F")
	f(16384, "30808001")
	sub := h.client(codec.V5, "sub")
	for _, id := range []string{"7F", "8001", "FF7F", "FFFF7F", "80808001", "FFFFFF7F"} {
		sub.send(wire("82 {0001 {0B " + id + "} ('t') 00}"))
		sub.expect("SUBACK 1 [00]")
		h.client(codec.V5, "pub").send(publishPacket(codec.V5, "t", "", 0, 0))
		sub.expectBytes("30 {('t') {0B " + id + "}}")
	}
}
