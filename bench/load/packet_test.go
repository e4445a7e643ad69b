package load

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func TestAppend(t *testing.T) {
	f := func(got []byte, want string) {
		t.Helper()
		if hex.EncodeToString(got) != want {
			t.Errorf("got  %x\nwant %s", got, want)
		}
	}
	f(appendConnect(nil, "ab", 600), "100e00044d51545404020258"+"00026162")
	f(appendSubscribe(nil, 1, "a/+", 2), "8208"+"0001"+"0003612f2b"+"02")
	f(appendAck(nil, pubackPacket, 0x1234), "40021234")
	f(appendAck(nil, pubrelPacket, 7), "62020007")
	f(appendDisconnect(nil), "e000")
	f(appendRemainingLength(nil, 127), "7f")
	f(appendRemainingLength(nil, 128), "8001")
	f(appendRemainingLength(nil, 2097152), "80808001")

	s := stamp{publisher: 1, run: 2, sequence: 3, due: 4}
	const stamped = "01000000" + "02000000" + "0300000000000000" + "0400000000000000"
	zero := newPublishFrame("t", 0, stampBytes)
	f(zero.append(nil, 9, s), "301b"+"000174"+stamped)
	one := newPublishFrame("t", 1, stampBytes+1)
	f(one.append([]byte{0xff}, 9, s), "ff"+"321e"+"000174"+"0009"+stamped+"00")
	two := newPublishFrame("t", 2, 200)
	f(two.append(nil, 9, s)[:8], "34cd01"+"000174"+"0009")
}

func TestPublishRoundTrip(t *testing.T) {
	f := func(qos uint8, payloadBytes int) {
		t.Helper()
		frame := newPublishFrame("load/x", qos, payloadBytes)
		want := stamp{publisher: 7, run: 1 << 31, sequence: 1 << 40, due: 1 << 50}
		b := frame.append(nil, 77, want)
		body, size, err := splitPacket(append(b, 0x40, 2))
		if err != nil || size != len(b) {
			t.Fatalf("splitPacket: size %d, %v; want %d", size, err, len(b))
		}
		gotQoS, packetID, payload, err := parsePublish(b[0], body)
		if err != nil || gotQoS != qos || len(payload) != payloadBytes || readStamp(payload) != want {
			t.Errorf("QoS %d: got QoS %d, %d bytes, %v", qos, gotQoS, len(payload), err)
		}
		if qos > 0 && packetID != 77 {
			t.Errorf("packet identifier %d", packetID)
		}
	}
	f(0, stampBytes)
	f(1, 64)
	f(2, 100_000)
}

func TestSplitPacket(t *testing.T) {
	f := func(in string, body string, size int, ok bool) {
		t.Helper()
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		got, gotSize, err := splitPacket(b)
		if hex.EncodeToString(got) != body || gotSize != size || (err == nil) != ok {
			t.Errorf("splitPacket(%s) = %x, %d, %v", in, got, gotSize, err)
		}
	}
	f("", "", 0, true)
	f("40", "", 0, true)
	f("4002", "", 0, true)
	f("400200", "", 0, true)
	f("40020001", "0001", 4, true)
	f("4002000140", "0001", 4, true)
	f("e000", "", 2, true)
	f("3080", "", 0, true)
	f("3080808080", "", 0, false)
	f("30ffffffff01", "", 0, false)
}

func TestParseShort(t *testing.T) {
	f := func(first byte, body string, ok bool) {
		t.Helper()
		b, _ := hex.DecodeString(body)
		var err error
		if first&0xf0 == publishPacket {
			_, _, _, err = parsePublish(first, b)
		} else {
			_, err = parsePacketID(first, b)
		}
		if (err == nil) != ok {
			t.Errorf("packet 0x%02x %s: %v", first, body, err)
		}
	}
	f(0x30, "", false)
	f(0x30, "00", false)
	f(0x30, "0001", false)
	f(0x30, "000161", true)
	f(0x32, "000161", false)
	f(0x32, "00016100", false)
	f(0x32, "0001610001", true)
	f(0x40, "00", false)
	f(0x40, "0001", true)
}

func FuzzSplitPacket(f *testing.F) {
	f.Add([]byte{0x40, 2, 0, 1})
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		body, size, err := splitPacket(b)
		if err != nil || size == 0 {
			return
		}
		if size > len(b) || !bytes.HasSuffix(b[:size], body) {
			t.Fatalf("size %d of %d", size, len(b))
		}
		_, _, _, _ = parsePublish(b[0], body)
		_, _ = parsePacketID(b[0], body)
	})
}
