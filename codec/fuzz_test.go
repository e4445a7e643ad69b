package codec

import (
	"slices"
	"testing"
)

// roundTrip parses body; what parses must encode, and parse back equal. Nothing may panic.
func roundTrip(t *testing.T, typ PacketType, flags uint8, body []byte, v Version, from Side) {
	t.Helper()
	first, err := decodeBody(typ, flags&0x0F, append([]byte(nil), body...), v, from)
	if err != nil {
		if _, ok := err.(*Error); !ok {
			t.Fatalf("the error is no *Error: %v", err)
		}
		return
	}
	wire := first.encode(nil, v)
	second, err := decode(string(wire), v, from)
	if err != nil {
		t.Fatalf("%s\nencoded as % X\nis refused: %v", show(first), wire, err)
	}
	if show(first) != show(second) {
		t.Errorf("parsed %s\nback   %s", show(first), show(second))
	}
	for p := range propertiesOf(first).All() {
		_ = p.ID.String()
	}
}

// propertiesOf returns the properties of those packets that hand them to their receiver whole.
func propertiesOf(p packet) Properties {
	switch p := p.(type) {
	case *Connect:
		return p.Properties
	case *Publish:
		return p.Properties
	case ackPacket:
		return p.Properties
	default:
		return nil
	}
}

// versionAndSide picks from one byte of fuzzing input.
func versionAndSide(b uint8) (Version, Side) {
	return []Version{V31, V311, V5, V5}[b&3], Side(b >> 2 & 1)
}

// fuzzPackets fuzzes the decoders of the given types, from wires of whole packets.
func fuzzPackets(f *testing.F, types []PacketType, wires ...string) {
	for _, wire := range wires {
		h, ok, err := ReadHeader([]byte(wire))
		if !ok || err != nil {
			f.Fatalf("bad seed % X", wire)
		}
		for version := range uint8(3) {
			for _, side := range []uint8{0, 4} {
				f.Add(byte(h.Type), h.Flags, version|side, []byte(wire[h.Size:]))
			}
		}
	}
	f.Fuzz(func(t *testing.T, typ, flags, versionSide uint8, body []byte) {
		i := slices.Index(types, PacketType(typ))
		if i < 0 {
			i = int(typ) % len(types)
		}
		v, from := versionAndSide(versionSide)
		if types[i] == AUTH {
			v = V5
		}
		roundTrip(t, types[i], flags, body, v, from)
	})
}

func FuzzConnect(f *testing.F) {
	fuzzPackets(f, []PacketType{CONNECT},
		"\x10\x0E\x00\x06MQIsdp\x03\x00\x00\x00\x00\x00",
		"\x10\x16\x00\x04MQTT\x04\x2C\x00\x00\x00\x01c\x00\x03w/t\x00\x02hi",
		"\x10\x1C\x00\x04MQTT\x05\x42\x00\x0A\x05\x11\xFF\xFF\xFF\xFF\x00\x00\x00\x03pwd",
		"\x10\x29\x00\x04MQTT\x05\x16\x00\x0A\x03\x21\x00\x40\x00\x01c\x10\x18\x00\x00\x00\x05\x02\x00\x00\x00\x09\x03\x00\x03a/b\x00\x01w\x00\x02\x00\x01")
}

func FuzzConnack(f *testing.F) {
	fuzzPackets(f, []PacketType{CONNACK}, "\x20\x02\x01\x00", "\x20\x0A\x01\x00\x07\x24\x01\x12\x00\x02id")
}

func FuzzPublish(f *testing.F) {
	fuzzPackets(f, []PacketType{PUBLISH}, "\x30\x05\x00\x01ahi", "\x33\x07\x00\x03a/b\x00\x0A",
		"\x30\x1A\x00\x01a\x14\x23\x00\x05\x02\x00\x00\x00\x3C\x0B\x01\x0B\x80\x01\x26\x00\x01k\x00\x01vhi",
		"\x32\x0D\x00\x01a\x00\x07\x05\x09\x00\x02\x00\xFFhi", "\x30\x08\x00\x00\x03\x23\x00\x05hi")
}

func FuzzAck(f *testing.F) {
	fuzzPackets(f, []PacketType{PUBACK, PUBREC, PUBREL, PUBCOMP}, "\x40\x02\x00\x01", "\x62\x03\x00\x01\x92",
		"\x50\x09\x00\x01\x87\x05\x1F\x00\x02no")
}

func FuzzSubscribe(f *testing.F) {
	fuzzPackets(f, []PacketType{SUBSCRIBE}, "\x82\x06\x00\x0A\x00\x01#\x02",
		"\x82\x10\x00\x0A\x00\x00\x01a\x2D\x00\x03b/+\x10\x00\x00\x00",
		"\x82\x11\x00\x0A\x0A\x0B\x80\x01\x26\x00\x01k\x00\x01v\x00\x01a\x00")
}

func FuzzSuback(f *testing.F) {
	fuzzPackets(f, []PacketType{SUBACK, UNSUBACK}, "\x90\x05\x00\x0A\x00\x02\x80", "\xB0\x05\x00\x0A\x00\x00\x11",
		"\x90\x0A\x00\x0A\x05\x1F\x00\x02no\x87\x8F", "\xB0\x02\x00\x0A")
}

func FuzzUnsubscribe(f *testing.F) {
	fuzzPackets(f, []PacketType{UNSUBSCRIBE}, "\xA2\x08\x00\x0A\x00\x01#\x00\x01a", "\xA2\x0D\x00\x0A\x07\x26\x00\x01k\x00\x01v\x00\x01#")
}

func FuzzDisconnect(f *testing.F) {
	fuzzPackets(f, []PacketType{DISCONNECT}, "\xE0\x00", "\xE0\x01\x04", "\xE0\x07\x00\x05\x11\x00\x00\x00\x3C", "\xE0\x06\x9D\x04\x1C\x00\x01b")
}

func FuzzAuth(f *testing.F) {
	fuzzPackets(f, []PacketType{AUTH}, "\xF0\x00", "\xF0\x06\x19\x04\x15\x00\x01m", "\xF0\x0A\x18\x08\x15\x00\x01m\x16\x00\x01\xFF")
}

// FuzzHeader checks the fixed header against its encoding.
func FuzzHeader(f *testing.F) {
	f.Add([]byte("\x30\xFF\xFF\xFF\x7F"), uint8(4))
	f.Add([]byte("\x82\x80\x00"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, version uint8) {
		h, ok, err := ReadHeader(b)
		if !ok || err != nil {
			return
		}
		if got := appendHeader(nil, h.Type, h.Flags, h.Remaining); string(got) != string(b[:h.Size]) {
			t.Errorf("header % X is written as % X", b[:h.Size], got)
		}
		if err := h.CheckFlags(Version(version)); err != nil && err.(*Error).Code != MalformedPacket {
			t.Errorf("CheckFlags(%+v): %v", h, err)
		}
	})
}
