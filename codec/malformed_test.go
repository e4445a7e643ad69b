package codec

import (
	"strings"
	"testing"
)

// Text that is no UTF-8 encoded string [MQTT-1.5.4-1] [MQTT-1.5.4-2].
var badStrings = []string{
	"\xED\xA0\x80",                // a surrogate
	"\xC0\xAF",                    // overlong
	"\xE2\x82",                    // truncated
	"\xFF",                        // never occurs
	"\xF4\x90\x80\x80",            // above U+10FFFF
	"a\x00b",                      // NUL
	"0123456\x00 0123456789",      // NUL inside the first word of the fast path
	"0123456789\x00",              // NUL after it
	"\xC3\xA4 0123456789\x00",     // NUL behind other text
	"0123456789 0123456789 \xFFa", // bad text late
}

func TestConnectRefused(t *testing.T) {
	f := func(body string, want ReasonCode, wantVersion Version) {
		t.Helper()
		checkRefused(t, 0, FromClient, wire(0x10, body), want)
		var c Connect
		if ParseConnect(&c, []byte(body)); c.Version != wantVersion {
			t.Errorf("Version = %v, want %v", c.Version, wantVersion)
		}
	}
	const v31, v311, v5 = "\x00\x06MQIsdp\x03", "\x00\x04MQTT\x04", "\x00\x04MQTT\x05"

	f("", MalformedPacket, 0)
	f("\x00\x04MQ", MalformedPacket, 0)
	f("\x00\x04MQTT", MalformedPacket, 0)
	f("\x00\x04mqtt\x04\x02\x00\x00\x00\x00", UnsupportedProtocolVersion, 0) // [MQTT-3.1.2-1]
	f("\x00\x00\x04\x02\x00\x00\x00\x00", UnsupportedProtocolVersion, 0)
	f("\x00\x04HTTP", UnsupportedProtocolVersion, 0)
	f("\x00\x04MQTT\x06\x02\x00\x00\x00\x00", UnsupportedProtocolVersion, V5) // [MQTT-3.1.2-2]
	f("\x00\x04MQTT\x7F", UnsupportedProtocolVersion, V5)
	f("\x00\x04MQTT\x00", UnsupportedProtocolVersion, V311)
	f("\x00\x04MQTT\x03\x02\x00\x00\x00\x00", UnsupportedProtocolVersion, V311) // M31-name
	f("\x00\x06MQIsdp\x04\x02\x00\x00\x00\x00", UnsupportedProtocolVersion, V311)
	f("\x00\x06MQIsdp\x05\x02\x00\x00\x00\x00", UnsupportedProtocolVersion, V5)
	f("\x00\x06MQIsdp\x83\x02\x00\x00\x00\x00", UnsupportedProtocolVersion, V311) // M31-bridge
	f("\x00\x04MQTT\x84\x02\x00\x00\x00\x00", UnsupportedProtocolVersion, V311)

	f(v311, MalformedPacket, V311)
	f(v311+"\x02\x00", MalformedPacket, V311)
	f(v311+"\x02\x00\x00", MalformedPacket, V311)                 // [MQTT-3.1.3-3]
	f(v311+"\x03\x00\x00\x00\x00", MalformedPacket, V311)         // [MQTT-3.1.2-3]
	f(v5+"\x03\x00\x00\x00\x00\x00", MalformedPacket, V5)         //
	f(v311+"\x0A\x00\x00\x00\x00", MalformedPacket, V311)         // [MQTT-3.1.2-11]
	f(v311+"\x22\x00\x00\x00\x00", MalformedPacket, V311)         // [MQTT-3.1.2-13]
	f(v311+"\x1A\x00\x00\x00\x00", MalformedPacket, V311)         //
	f(v311+"\x1E\x00\x00\x00\x00", MalformedPacket, V311)         // [MQTT-3.1.2-12]
	f(v31+"\x1E\x00\x00\x00\x00", MalformedPacket, V31)           //
	f(v311+"\x06\x00\x00\x00\x00", MalformedPacket, V311)         // [MQTT-3.1.2-9]
	f(v311+"\x42\x00\x00\x00\x00\x00\x00", MalformedPacket, V311) // 311:MQTT-3.1.2-22
	f(v31+"\x42\x00\x00\x00\x00\x00\x00", MalformedPacket, V31)   // M31-pwd
	f(v311+"\x82\x00\x00\x00\x00", MalformedPacket, V311)         // [MQTT-3.1.2-17]
	f(v311+"\xC2\x00\x00\x00\x00\x00\x00", MalformedPacket, V311) // [MQTT-3.1.2-19]
	f(v311+"\x02\x00\x00\x00\x00\x00\x00", MalformedPacket, V311) // [MQTT-3.1.2-16] [MQTT-3.1.2-18]
	f(v31+"\x02\x00\x00\x00\x00\x00\x00", MalformedPacket, V31)   //
	f(v31+"\x82\x00\x00\x00\x00\x00", MalformedPacket, V31)       //

	f(v5+"\x02\x00\x00", MalformedPacket, V5)                                             // [MQTT-2.2.2-1]
	f(v5+"\x02\x00\x00\x05\x11", MalformedPacket, V5)                                     // U5-2.2.2.2-len
	f(v5+"\x02\x00\x00"+props("\x16\x00\x00")+field(""), ProtocolError, V5)               // U5-3.1.2.11.10
	f(v5+"\x06\x00\x00\x00"+field("")+props("\x18\x00\x00\x00\x01"), MalformedPacket, V5) // [MQTT-3.1.2-9]
	f(v5+"\x06\x00\x00\x00"+field("")+props("\x11\x00\x00\x00\x01")+"\x00\x01w\x00\x00", MalformedPacket, V5)
	f(v5+"\x06\x00\x00\x00"+field("")+props("\x01\x02")+"\x00\x01w\x00\x00", ProtocolError, V5)

	will := func(v, properties, topic string) string {
		return v + "\x06\x00\x00" + properties + field("") + properties + field(topic) + field("payload")
	}
	f(will(v311, "", ""), ProtocolError, V311) // U5-3.1.3.3
	f(will(v5, "\x00", ""), ProtocolError, V5)
	f(will(v311, "", "w/#"), TopicNameInvalid, V311)
	f(will(v5, "\x00", "+"), TopicNameInvalid, V5)
	f(will(v5, "\x00", "$share/g/t"), TopicNameInvalid, V5)
	for _, bad := range badStrings {
		f(v311+"\x02\x00\x00"+field(bad), MalformedPacket, V311)           // [MQTT-3.1.3-4]
		f(v31+"\x02\x00\x00"+field(bad), MalformedPacket, V31)             // M31-utf
		f(will(v5, "\x00", bad), MalformedPacket, V5)                      // [MQTT-3.1.3-11]
		f(v311+"\x82\x00\x00"+field("")+field(bad), MalformedPacket, V311) // [MQTT-3.1.3-12]
	}
	if _, err := decode(wire(0x10, v311+"\xC2\x00\x00"+field("")+field("u")+field("\xFF\x00")), 0, FromClient); err != nil {
		t.Errorf("a password that is no text: %v", err)
	}
}

func TestPublishRefused(t *testing.T) {
	f := func(v Version, from Side, first byte, body string, want ReasonCode) {
		t.Helper()
		checkRefused(t, v, from, wire(first, body), want)
	}
	f(V311, FromClient, 0x30, "", MalformedPacket)
	f(V311, FromClient, 0x30, "\x00\x02a", MalformedPacket)
	f(V311, FromClient, 0x32, "\x00\x01a\x00", MalformedPacket)
	f(V311, FromClient, 0x32, "\x00\x01a\x00\x00", ProtocolError)  // [MQTT-2.2.1-3], M31-msgid
	f(V311, FromClient, 0x30, "\x00\x00", MalformedPacket)         // [MQTT-4.7.3-1]
	f(V5, FromClient, 0x30, "\x00\x00\x00", ProtocolError)         // U5-3.3.2.3.4-empty
	f(V31, FromClient, 0x36, "\x00\x01a\x00\x01", MalformedPacket) // [MQTT-3.3.1-4]
	f(V5, FromClient, 0x37, "\x00\x01a\x00\x01\x00", MalformedPacket)
	f(V311, FromClient, 0x38, "\x00\x01a", MalformedPacket) // [MQTT-3.3.1-2]
	f(V5, FromClient, 0x39, "\x00\x01a\x00", MalformedPacket)
	f(V5, FromClient, 0x30, "\x00\x01a", MalformedPacket) // [MQTT-2.2.2-1]
	f(V5, FromClient, 0x30, "\x00\x01a\x02\x01", MalformedPacket)
	f(V5, FromClient, 0x30, "\x00\x01a\x80", MalformedPacket)
	f(V5, FromClient, 0x30, "\x00\x01a\x80\x00", MalformedPacket) // [MQTT-1.5.5-1]
	f(V5, FromClient, 0x30, "\x00\x01a\xFF\xFF\xFF\xFF\x7F", MalformedPacket)
	f(V5, FromClient, 0x30, "\x00\x01a"+props("\x23\x00\x00"), TopicAliasInvalid) // [MQTT-3.3.2-8]
	f(V5, FromClient, 0x30, "\x00\x01a"+props("\x0B\x01"), ProtocolError)         // [MQTT-3.3.4-6]
	f(V5, FromServer, 0x30, "\x00\x01a"+props("\x0B\x00"), ProtocolError)         // U5-3.3.2.3.8
	f(V5, FromClient, 0x30, "\x00\x01a"+props("\x08\x00\x02a+"), ProtocolError)   // [MQTT-3.3.2-14]
	for _, name := range []string{"#", "a/+/b", "01234567+", "012345678901234#", "+0123456789", "$share/g/t", "$share/", "\xC3\xA4+"} {
		f(V311, FromClient, 0x30, field(name), TopicNameInvalid) // [MQTT-3.3.2-2], B-share-name
		f(V5, FromServer, 0x30, field(name)+"\x00", TopicNameInvalid)
	}
	for _, bad := range badStrings {
		f(V311, FromClient, 0x30, field(bad), MalformedPacket)      // [MQTT-3.3.2-1]
		f(V5, FromClient, 0x30, field(bad)+"\x00", MalformedPacket) //
		f(V5, FromClient, 0x30, field("#"+bad)+"\x00", MalformedPacket)
	}
	for _, name := range []string{"\xEF\xBB\xBFa", "$share", "$SYS/x", "\x01\x7F", "\xC3\xA4\xC3\xB6/\xF0\x9F\x98\x80", strings.Repeat("a", 65535)} {
		if _, err := decode(wire(0x30, field(name)), V311, FromClient); err != nil {
			t.Errorf("topic %.40q: %v", name, err)
		}
	}
}

func TestAckRefused(t *testing.T) {
	f := func(v Version, first byte, body string, want ReasonCode) {
		t.Helper()
		checkRefused(t, v, FromClient, wire(first, body), want)
	}
	f(V311, 0x40, "", MalformedPacket)
	f(V5, 0x40, "\x00", MalformedPacket)
	f(V311, 0x50, "\x00\x01\x00", MalformedPacket) // 3.x has exactly two bytes
	f(V311, 0x40, "\x00\x00", ProtocolError)
	f(V5, 0x62, "\x00\x00", ProtocolError)
	f(V5, 0x40, "\x00\x01\x92", ProtocolError) // [MQTT-3.4.2-1]
	f(V5, 0x50, "\x00\x01\x18", ProtocolError) // [MQTT-3.5.2-1]
	f(V5, 0x62, "\x00\x01\x80", ProtocolError) // [MQTT-3.6.2-1]
	f(V5, 0x70, "\x00\x01\x10", ProtocolError) // [MQTT-3.7.2-1]
	f(V5, 0x40, "\x00\x01\xFF", ProtocolError) // U5-2.4
	f(V5, 0x40, "\x00\x01\x00\x00\x00", MalformedPacket)
	f(V5, 0x40, "\x00\x01\x00\x01", MalformedPacket)
	f(V5, 0x40, "\x00\x01\x00"+props("\x01\x00"), MalformedPacket)
	f(V5, 0x40, "\x00\x01\x00"+props("\x1F\x00\x01a\x1F\x00\x01a"), ProtocolError)
}

func TestSubscribeRefused(t *testing.T) {
	f := func(v Version, body string, want ReasonCode) {
		t.Helper()
		checkRefused(t, v, FromClient, wire(0x82, body), want)
	}
	f(V311, "", MalformedPacket)
	f(V311, "\x00\x00\x00\x01a\x00", ProtocolError) // [MQTT-2.2.1-3]
	f(V311, "\x00\x01", ProtocolError)              // [MQTT-3.8.3-2]
	f(V5, "\x00\x01\x00", ProtocolError)
	f(V5, "\x00\x01", MalformedPacket)
	f(V311, "\x00\x01\x00\x01a", MalformedPacket) // no options
	f(V311, "\x00\x01\x00\x01a\x00\x00", MalformedPacket)
	f(V311, "\x00\x01\x00\x05a\x00", MalformedPacket)
	f(V311, "\x00\x01\x00\x01a\x04", MalformedPacket) // [MQTT-3.8.3-5]
	f(V31, "\x00\x01\x00\x01a\x80", MalformedPacket)
	f(V311, "\x00\x01\x00\x01a\x03", ProtocolError)
	f(V5, "\x00\x01\x00\x00\x01a\x40", MalformedPacket)
	f(V5, "\x00\x01\x00\x00\x01a\x80", MalformedPacket)
	f(V5, "\x00\x01\x00\x00\x01a\x03", ProtocolError) // U5-3.8.3.1-rh3
	f(V5, "\x00\x01\x00\x00\x01a\x30", ProtocolError)
	f(V5, "\x00\x01\x00"+field("$share/g/a")+"\x04", ProtocolError) // [MQTT-3.8.3-4]
	f(V5, "\x00\x01"+props("\x0B\x00")+"\x00\x01a\x00", ProtocolError)
	f(V5, "\x00\x01"+props("\x0B\x01\x0B\x01")+"\x00\x01a\x00", ProtocolError) // U5-3.8.2.1.2
	f(V5, "\x00\x01"+props("\x1F\x00\x00")+"\x00\x01a\x00", MalformedPacket)
	for _, bad := range badStrings {
		f(V311, "\x00\x01"+field(bad)+"\x00", MalformedPacket) // [MQTT-3.8.3-1]
	}
	full := strings.Repeat("\x00\x01a\x00", MaxFilters)
	if _, err := decode(wire(0x82, "\x00\x01"+full), V311, FromClient); err != nil {
		t.Errorf("MaxFilters filters: %v", err)
	}
	var s Subscribe
	if err := ParseSubscribe(&s, []byte("\x00\x01"+full+"\x00\x01a\x00"), V311); err != errTooManyFilters {
		t.Errorf("more than MaxFilters filters: %v", err)
	}
}

func TestUnsubscribeRefused(t *testing.T) {
	f := func(v Version, body string, want ReasonCode) {
		t.Helper()
		checkRefused(t, v, FromClient, wire(0xA2, body), want)
	}
	f(V311, "\x00", MalformedPacket)
	f(V311, "\x00\x00\x00\x01a", ProtocolError)
	f(V311, "\x00\x01", ProtocolError) // [MQTT-3.10.3-2]
	f(V5, "\x00\x01\x00", ProtocolError)
	f(V311, "\x00\x01\x00\x02a", MalformedPacket)
	f(V311, "\x00\x01\x00\x01a\x00", MalformedPacket)
	f(V5, "\x00\x01"+props("\x0B\x01")+"\x00\x01a", MalformedPacket)
	for _, bad := range badStrings {
		f(V311, "\x00\x01"+field(bad), MalformedPacket) // [MQTT-3.10.3-1]
	}
	var u Unsubscribe
	if err := ParseUnsubscribe(&u, []byte("\x00\x01"+strings.Repeat("\x00\x00", MaxFilters+1)), V311); err != errTooManyFilters {
		t.Errorf("more than MaxFilters filters: %v", err)
	}
}

func TestServerPacketsRefused(t *testing.T) {
	f := func(v Version, first byte, body string, want ReasonCode) {
		t.Helper()
		checkRefused(t, v, FromServer, wire(first, body), want)
	}
	f(V311, 0x20, "\x00", MalformedPacket) // CONNACK
	f(V311, 0x20, "\x00\x00\x00", MalformedPacket)
	f(V311, 0x20, "\x02\x00", MalformedPacket) // [MQTT-3.2.2-1]
	f(V5, 0x20, "\x81\x00\x00", MalformedPacket)
	f(V311, 0x20, "\x00\x06", ProtocolError) // [MQTT-3.2.2-8]
	f(V5, 0x20, "\x00\x01\x00", ProtocolError)
	f(V5, 0x20, "\x00\x8E\x00", ProtocolError)
	f(V5, 0x20, "\x00\x00", MalformedPacket)
	f(V5, 0x20, "\x00\x00"+props("\x21\x00\x00"), ProtocolError) // U5-3.2.2.3-zero
	f(V5, 0x20, "\x00\x00"+props("\x24\x02"), ProtocolError)
	f(V5, 0x20, "\x00\x00"+props("\x16\x00\x00"), ProtocolError)

	f(V311, 0x90, "\x00", MalformedPacket) // SUBACK
	f(V311, 0x90, "\x00\x01", ProtocolError)
	f(V311, 0x90, "\x00\x00\x00", ProtocolError)
	f(V311, 0x90, "\x00\x01\x87", ProtocolError)
	f(V311, 0x90, "\x00\x01\x03", ProtocolError)
	f(V5, 0x90, "\x00\x01\x00\x11", ProtocolError)
	f(V5, 0x90, "\x00\x01\x00", ProtocolError)
	f(V5, 0x90, "\x00\x01", MalformedPacket)

	f(V311, 0xB0, "\x00\x01\x00", MalformedPacket) // UNSUBACK
	f(V311, 0xB0, "\x00\x00", ProtocolError)
	f(V5, 0xB0, "\x00\x01\x00\x01", ProtocolError) // [MQTT-3.11.3-2]
	f(V5, 0xB0, "\x00\x01\x00", ProtocolError)
	f(V5, 0xB0, "\x00\x01", MalformedPacket)
}

func TestDisconnectRefused(t *testing.T) {
	f := func(v Version, from Side, body string, want ReasonCode) {
		t.Helper()
		checkRefused(t, v, from, wire(0xE0, body), want)
	}
	f(V311, FromClient, "\x00", MalformedPacket)
	f(V311, FromServer, "", ProtocolError)
	f(V5, FromClient, "\x8E", ProtocolError) // [MQTT-3.14.2-1]
	f(V5, FromServer, "\x04", ProtocolError)
	f(V5, FromClient, "\x01", ProtocolError)
	f(V5, FromClient, "\x00\x00\x00", MalformedPacket)
	f(V5, FromClient, "\x00\x01", MalformedPacket)
	f(V5, FromServer, "\x00"+props("\x11\x00\x00\x00\x00"), ProtocolError) // [MQTT-3.14.2-2]
	f(V5, FromClient, "\x00"+props("\x1C\x00\x01a"), MalformedPacket)
}

func TestAuthRefused(t *testing.T) {
	f := func(from Side, body string, want ReasonCode) {
		t.Helper()
		checkRefused(t, V5, from, wire(0xF0, body), want)
	}
	f(FromClient, "", ProtocolError) // [MQTT-3.15.2-1]: Success is the server's
	f(FromClient, "\x00\x00", ProtocolError)
	f(FromServer, "\x19"+props("\x15\x00\x01m"), ProtocolError)
	f(FromClient, "\x18\x00", ProtocolError) // U5-3.15.2.2.2
	f(FromClient, "\x19"+props("\x16\x00\x01d"), ProtocolError)
	f(FromServer, "\x00"+props("\x16\x00\x01d"), ProtocolError)
	f(FromClient, "\x18", MalformedPacket)
	f(FromClient, "\x18"+props("\x15\x00\x01m")+"\x00", MalformedPacket)
	f(FromClient, "\x18"+props("\x15\x00\x01m\x15\x00\x01m"), ProtocolError)
}
