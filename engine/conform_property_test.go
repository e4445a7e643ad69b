package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

// Section 2.2.2, properties.

// A propertyPlace is a packet of a client with properties in the place of @.
type propertyPlace struct {
	packet string
	first  bool   // sent as the first of a connection
	once   string // properties that may stand there once
}

var propertyPlaces = []propertyPlace{
	{"10 {('MQTT') 05 02 0000 {@} ('p')}", true, "11 15 16 17 19 21 22 27"},
	{"10 {('MQTT') 05 06 0000 {} ('p') {@} ('t') ('w')}", true, "01 02 03 08 09 18"},
	{"30 {('t') {@}}", false, "01 02 03 08 09 23"},
	{"32 {('t') 0001 {@}}", false, "01 02 03 08 09 23"},
	{"40 {0001 00 {@}}", false, "1F"},
	{"50 {0001 00 {@}}", false, "1F"},
	{"62 {0001 00 {@}}", false, "1F"},
	{"70 {0001 00 {@}}", false, "1F"},
	{"82 {0001 {@} ('f') 00}", false, "0B"},
	{"A2 {0001 {@} ('f')}", false, ""},
	{"E0 {00 {@}}", false, "11 1F"},
	{"F0 {18 {@}}", false, "15 16 1F"},
}

// propertyValues are well-formed values by property.
var propertyValues = map[string]string{
	"01": "00", "02": "00000001", "03": "('a')", "08": "('a')", "09": "(FF)", "0B": "01", "11": "00000000", "12": "('a')",
	"13": "0001", "15": "('m')", "16": "(00)", "17": "01", "18": "00000001", "19": "01", "1A": "('a')", "1C": "('a')",
	"1F": "('a')", "21": "0001", "22": "0001", "23": "0001", "24": "01", "25": "01", "26": "('a') ('b')", "27": "00000100",
	"28": "01", "29": "01", "2A": "01",
}

// refuses sends the packet with those properties; it must be answered with code.
func (pl *propertyPlace) refuses(h *harness, properties string, code codec.ReasonCode) {
	h.t.Helper()
	s := strings.ReplaceAll(pl.packet, "@", properties)
	if pl.first {
		h.first(codec.V5, s, fmt.Sprintf("CONNACK sp=0 %02X, end", byte(code)))
	} else {
		h.ends(codec.V5, s, code)
	}
}

func TestPropertiesThatDoNotBelong(t *testing.T) {
	covers(t, "U5-2.2.2.2-id")
	h := newHarness(t, 1, Options{})
	for _, pl := range propertyPlaces {
		for id, value := range propertyValues {
			if id == "26" || strings.Contains(pl.once, id) {
				continue
			}
			code := codec.MalformedPacket
			if id == "0B" && strings.HasPrefix(pl.packet, "3") {
				code = codec.ProtocolError // PUBLISH has it, but only from a server [MQTT-3.3.4-6]
			}
			pl.refuses(h, id+value, code)
		}
		for id := range 0x80 {
			if name := fmt.Sprintf("%02X", id); propertyValues[name] == "" {
				pl.refuses(h, name+"01", codec.MalformedPacket)
			}
		}
		pl.refuses(h, "81 01 01", codec.MalformedPacket) // 129, as a variable byte integer
	}
}

func TestPropertiesGivenTwice(t *testing.T) {
	covers(t, "U5-2.2.2.2-dup")
	h := newHarness(t, 1, Options{})
	for _, pl := range propertyPlaces {
		for _, id := range strings.Fields(pl.once) {
			pl.refuses(h, id+propertyValues[id]+id+propertyValues[id], codec.ProtocolError)
		}
	}
	// Once, and User Property any number of times, they are taken.
	taken := map[string]string{"10": "CONNACK sp=0 00", "32": "PUBACK 1 10", "62": "PUBCOMP 1 92", "50": "PUBREL 1 92",
		"82": "SUBACK 1 [00]", "A2": "UNSUBACK 1 [11]", "E0": "end", "30": "", "40": "", "70": ""}
	for _, pl := range propertyPlaces {
		want, ok := taken[pl.packet[:2]]
		if !ok { // AUTH needs a method that CONNECT named
			continue
		}
		ids := slices.DeleteFunc(strings.Fields(pl.once), func(id string) bool { return id == "15" || id == "16" })
		all := ""
		for _, id := range append(ids, "26", "26", "26") {
			all += id + propertyValues[id]
		}
		s := strings.ReplaceAll(pl.packet, "@", all)
		if pl.first {
			h.first(codec.V5, s, want)
		} else {
			h.open(codec.V5, s, want)
		}
	}
}

func TestPropertyLengthEndsOnABoundary(t *testing.T) {
	covers(t, "U5-2.2.2.2-len")
	h := newHarness(t, 1, Options{})
	user := "26 ('a') ('b')" // seven bytes
	for _, pl := range propertyPlaces {
		for _, length := range []string{"01", "02", "06", "08", "7F", "FF 7F"} {
			bad := strings.Replace(pl.packet, "{@", "{26", 1) // to find the bracket
			bad = strings.Replace(bad, "{26}", length+user, 1)
			plain := propertyPlace{packet: bad, first: pl.first}
			plain.refusesAny(h)
		}
		for _, part := range []string{"26", "26 00", "26 ('a')", "26 ('a') 00", "26 ('a') 0002 'b'"} {
			pl.refuses(h, part, codec.MalformedPacket)
		}
	}
	h.ends(codec.V5, "30 {('t') {01}}", codec.MalformedPacket)
	h.ends(codec.V5, "30 {('t') {02 000000}}", codec.MalformedPacket)
	h.ends(codec.V5, "30 {('t') {23 00}}", codec.MalformedPacket)
	h.ends(codec.V5, "82 {0001 {0B} ('f') 00}", codec.MalformedPacket)
	h.ends(codec.V5, "82 {0001 {0B 80} ('f') 00}", codec.MalformedPacket)
	h.first(codec.V5, "10 {('MQTT') 05 02 0000 {27 0000} ('c')}", "CONNACK sp=0 81, end")
}

// refusesAny: a wrong length lets the broker read something else, which is a
// malformed packet in every place, but may be another mistake first.
func (pl *propertyPlace) refusesAny(h *harness) {
	h.t.Helper()
	var p *peer
	if pl.first {
		p = h.dial(codec.V5)
	} else {
		p = h.client(codec.V5, "open")
	}
	p.send(wire(pl.packet))
	got := p.taken()
	if got != "DISCONNECT 81, end" && got != "CONNACK sp=0 81, end" {
		h.t.Errorf("%s: got %q, want the end with code 81", pl.packet, got)
	}
	p.cut()
}

// A packet without properties has a Property Length of 0, where it cannot be left out.
func TestNoPropertiesIsALengthOfZero(t *testing.T) {
	covers(t, "MQTT-2.2.2-1")
	h := newHarness(t, 1, Options{Listeners: []Listener{{Address: "harness:1883"}}}) // nobody may come in
	p := h.dial(codec.V5)
	p.send(wire("10 {('MQTT') 05 02 0000 {27 00000005} ('c')}"))
	p.expectBytes("20 {00 87 {}}")

	h = newHarness(t, 1, Options{})
	p = h.client(codec.V5, "c")
	p.send(wire("82 {0102 {} ('t') 00}"))
	p.expectBytes("90 {0102 {} 00}")
	p.send(wire("30 {('t') {} 'p'}"))
	p.expectBytes("30 {('t') {} 'p'}")
	p.send(wire("A2 {0103 {} ('t')}"))
	p.expectBytes("B0 {0103 {} 00}")

	// Without the length the packet is another one.
	h.ends(codec.V5, "82 {0001 ('f') 00}", codec.MalformedPacket)
	h.ends(codec.V5, "A2 {0001}", codec.MalformedPacket)
	h.ends(codec.V5, "30 {('t')}", codec.MalformedPacket)
	h.first(codec.V5, "10 {('MQTT') 05 02 0000}", "CONNACK sp=0 81, end")
}
