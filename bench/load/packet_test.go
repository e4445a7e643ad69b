package load

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func TestAppend(t *testing.T) {
	f := func(got []byte, want string) {
		t.Helper()
		if hex.EncodeToString(got) != want {
			t.Errorf("got  %x\nwant %s", got, want)
		}
	}
	f(connect{clientID: "ab", keepAlive: 600}.append(nil), "100e00044d51545404020258"+"00026162")
	f(connect{clientID: "ab", persistent: true, username: "u", password: "p"}.append(nil), "101400044d51545404c00000"+"00026162"+"000175"+"000170")
	f(connect{version: V5, clientID: "ab"}.append(nil), "100f00044d51545405020000"+"00"+"00026162")
	f(connect{version: V5, clientID: "ab", persistent: true}.append(nil), "101400044d51545405000000"+"051100000e10"+"00026162")
	f(appendSubscribe(nil, V311, 1, 2, "a/+"), "8208"+"0001"+"0003612f2b"+"02")
	f(appendSubscribe(nil, V5, 1, 2, "a", "b"), "820b"+"0001"+"00"+"000161"+"02"+"000162"+"02")
	f(appendAck(nil, pubackPacket, 0x1234), "40021234")
	f(appendAck(nil, pubrelPacket, 7), "62020007")
	f(appendDisconnect(nil), "e000")
	f(appendPing(nil), "c000")
	f(appendRemainingLength(nil, 127), "7f")
	f(appendRemainingLength(nil, 128), "8001")
	f(appendRemainingLength(nil, 2097152), "80808001")

	s := stamp{publisher: 1, run: 2, sequence: 3, due: 4}
	const stamped = "03000000" + "01000800" + "0400000000000000"
	zero := newPublishFrame(V311, "t", 0, false, stampBytes)
	f(zero.append(nil, 9, s), "3013"+"000174"+stamped)
	one := newPublishFrame(V311, "t", 1, true, stampBytes+1)
	f(one.append([]byte{0xff}, 9, s), "ff"+"3316"+"000174"+"0009"+stamped+"00")
	five := newPublishFrame(V5, "t", 1, false, stampBytes)
	f(five.append(nil, 9, s), "3216"+"000174"+"0009"+"00"+stamped)
	two := newPublishFrame(V311, "t", 2, false, 200)
	f(two.append(nil, 9, s)[:8], "34cd01"+"000174"+"0009")
}

func TestPublishRoundTrip(t *testing.T) {
	f := func(v Version, qos uint8, payloadBytes int) {
		t.Helper()
		frame := newPublishFrame(v, "load/x", qos, false, payloadBytes)
		want := stamp{publisher: 1<<publisherBits - 1, run: 1<<runBits - 1, sequence: 1<<32 - 1, due: 1 << 50}
		b := frame.append(nil, 77, want)
		body, size, err := splitPacket(append(b, 0x40, 2))
		if err != nil || size != len(b) {
			t.Fatalf("splitPacket: size %d, %v; want %d", size, err, len(b))
		}
		gotQoS, packetID, payload, err := parsePublish(v, b[0], body)
		if err != nil || gotQoS != qos || len(payload) != payloadBytes || readStamp(payload) != want {
			t.Errorf("QoS %d: got QoS %d, %d bytes, %v", qos, gotQoS, len(payload), err)
		}
		if qos > 0 && packetID != 77 {
			t.Errorf("packet identifier %d", packetID)
		}
	}
	f(V311, 0, stampBytes)
	f(V311, 1, 64)
	f(V5, 2, 100_000)
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
	f("4002", "", 4, true)
	f("400200", "", 4, true)
	f("40020001", "0001", 4, true)
	f("4002000140", "0001", 4, true)
	f("e000", "", 2, true)
	f("3080", "", 0, true)
	f("30808040", "", 4+1<<20, true)
	f("30ffffff7f", "", 0, false)
	f("3080808080", "", 0, false)
	f("30ffffffff01", "", 0, false)
}

func TestParseShort(t *testing.T) {
	f := func(v Version, first byte, body string, ok bool) {
		t.Helper()
		b, _ := hex.DecodeString(body)
		var err error
		if first&0xf0 == publishPacket {
			_, _, _, err = parsePublish(v, first, b)
		} else {
			_, err = parseAck(v, first, b)
		}
		if (err == nil) != ok {
			t.Errorf("packet 0x%02x %s: %v", first, body, err)
		}
	}
	f(V311, 0x30, "", false)
	f(V311, 0x30, "00", false)
	f(V311, 0x30, "0001", false)
	f(V311, 0x30, "000161", true)
	f(V311, 0x32, "000161", false)
	f(V311, 0x32, "00016100", false)
	f(V311, 0x32, "0001610001", true)
	f(V5, 0x30, "000161", false)
	f(V5, 0x30, "00016100", true)
	f(V5, 0x30, "00016102aa", false)
	f(V5, 0x30, "0001618080808001", false)
	f(V311, 0x40, "00", false)
	f(V311, 0x40, "0001", true)
	f(V5, 0x40, "000110", true)
	f(V5, 0x40, "000197", false)
}

func TestParseConnack(t *testing.T) {
	f := func(v Version, body string, want connack, message string) {
		t.Helper()
		b, err := hex.DecodeString(body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseConnack(v, b)
		if message == "" && (err != nil || got != want) || message != "" && (err == nil || !strings.Contains(err.Error(), message)) {
			t.Errorf("%s: %+v, %v; want %+v, %q", body, got, err, want, message)
		}
	}
	f(V311, "0100", connack{true, 65535}, "")
	f(V311, "0005", connack{}, "not authorized")
	f(V311, "0009", connack{}, "code 9")
	f(V311, "00", connack{}, "1 bytes")
	f(V311, "000000", connack{}, "3 bytes")
	f(V5, "000000", connack{false, 65535}, "")
	f(V5, "0087", connack{}, "0x87, not authorized")
	f(V5, "01000d"+"1200016126000161000162210014"[:26], connack{}, "short")
	f(V5, "01000e"+"1200016126000161000162"+"210014", connack{true, 20}, "")
	f(V5, "00000421001424", connack{}, "short")
	f(V5, "000002"+"1200", connack{}, "short")
	f(V5, "0000", connack{}, "short")
}

func TestParseSuback(t *testing.T) {
	f := func(v Version, body string, qos uint8, count int, message string) {
		t.Helper()
		b, _ := hex.DecodeString(body)
		_, err := parseSuback(v, b, qos, count)
		if message == "" && err != nil || message != "" && (err == nil || !strings.Contains(err.Error(), message)) {
			t.Errorf("%s: %v, want %q", body, err, message)
		}
	}
	f(V311, "000101", 1, 1, "")
	f(V311, "00010101", 1, 2, "")
	f(V311, "000100", 1, 1, "grants QoS 0")
	f(V311, "000180", 1, 1, "refuses: 0x80")
	f(V311, "0001", 1, 1, "0 codes for 1")
	f(V311, "00", 1, 1, "short")
	f(V5, "00010001", 1, 1, "")
	f(V5, "0001009e", 1, 1, "shared subscriptions not supported")
	f(V5, "0001", 1, 1, "short")
}

func FuzzPackets(f *testing.F) {
	f.Add(uint8(0), []byte{0x40, 2, 0, 1})
	f.Add(uint8(1), []byte{0x20, 6, 0, 0, 3, 0x21, 0, 9})
	f.Add(uint8(0), []byte{0x30, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, version uint8, b []byte) {
		v := Version(version % 2)
		body, size, err := splitPacket(b)
		if err != nil || body == nil {
			return
		}
		if size > len(b) || !bytes.HasSuffix(b[:size], body) {
			t.Fatalf("size %d of %d", size, len(b))
		}
		_, _, _, _ = parsePublish(v, b[0], body)
		_, _ = parseAck(v, b[0], body)
		_, _ = parseConnack(v, body)
		_, _ = parseSuback(v, body, 1, 1)
	})
}
