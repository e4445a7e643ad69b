package codec

import (
	"fmt"
	"strings"
	"testing"
)

// TestPropertiesByPacket holds the table of section 2.2.2.2: what each packet may carry, how often.
func TestPropertiesByPacket(t *testing.T) {
	f := func(name string, in context, wantOnce, wantMany string) {
		t.Helper()
		var once, many []string
		for id := range 256 {
			value, ok := sampleProperty(PropertyID(id))
			if !ok {
				value = Properties{byte(id), 0}
			}
			prefix := Properties(nil) // Authentication Data needs a method beside it
			if id == int(AuthenticationData) && in&(inConnect|inConnack) != 0 {
				prefix = AppendBytes(nil, AuthenticationMethod, "m")
			}
			one := append(prefix[:len(prefix):len(prefix)], value...)
			if _, err := one.check(in); err != nil {
				continue
			}
			if _, err := append(one, value...).check(in); err == nil {
				many = append(many, fmt.Sprintf("%02X", id))
			} else if e, ok := err.(*Error); ok && e.Code == ProtocolError { // U5-2.2.2.2-dup
				once = append(once, fmt.Sprintf("%02X", id))
			}
		}
		if got := strings.Join(once, " "); got != wantOnce {
			t.Errorf("%s: once %s, want %s", name, got, wantOnce)
		}
		if got := strings.Join(many, " "); got != wantMany {
			t.Errorf("%s: many %s, want %s", name, got, wantMany)
		}
	}
	f("CONNECT", inConnect, "11 15 16 17 19 21 22 27", "26")
	f("will", inWill, "01 02 03 08 09 18", "26")
	f("CONNACK", inConnack, "11 12 13 15 16 1A 1C 1F 21 22 24 25 27 28 29 2A", "26")
	f("PUBLISH from client", inPublishClient, "01 02 03 08 09 23", "26")
	f("PUBLISH from server", inPublishServer, "01 02 03 08 09 23", "0B 26")
	f("acknowledgements", inAck, "1F", "26")
	f("SUBSCRIBE", inSubscribe, "0B", "26")
	f("SUBACK", inSuback, "1F", "26")
	f("UNSUBSCRIBE", inUnsubscribe, "", "26")
	f("UNSUBACK", inUnsuback, "1F", "26")
	f("DISCONNECT from client", inDisconnectClient, "11 1F", "26")
	f("DISCONNECT from server", inDisconnectServer, "1C 1F", "26")
	f("AUTH", inAuth, "15 16 1F", "26")
}

// sampleProperty returns a valid property with that identifier.
func sampleProperty(id PropertyID) (Properties, bool) {
	switch id.valueType() {
	case typeByte, typeUint16, typeUint32, typeVarint:
		return AppendUint(nil, id, 1), true
	case typeString, typeBinary:
		return AppendBytes(nil, id, "s"), true
	case typePair:
		return AppendUserProperty(nil, "n", "v"), true
	default:
		return nil, false
	}
}

func TestPropertiesRefused(t *testing.T) {
	f := func(encoded string, in context, want ReasonCode) {
		t.Helper()
		_, err := Properties(encoded).check(in)
		if e, ok := err.(*Error); !ok || e.Code != want {
			t.Errorf("properties % X: %v, want %v", encoded, err, want)
		}
	}
	f("\x00\x00", inConnect, MalformedPacket) // U5-2.2.2.2-id
	f("\x04\x00", inConnect, MalformedPacket)
	f("\x2B\x00", inConnect, MalformedPacket)
	f("\xA6\x00\x00\x00", inConnect, MalformedPacket) // an identifier longer than need be
	f("\xFF", inConnect, MalformedPacket)
	f("\x01", inWill, MalformedPacket) // cut off
	f("\x21\x00", inConnect, MalformedPacket)
	f("\x11\x00\x00\x00", inConnect, MalformedPacket)
	f("\x0B", inSubscribe, MalformedPacket)
	f("\x0B\x80", inSubscribe, MalformedPacket)
	f("\x0B\x80\x00", inSubscribe, MalformedPacket) // [MQTT-1.5.5-1]
	f("\x0B\xFF\xFF\xFF\xFF\x7F", inSubscribe, MalformedPacket)
	f("\x15\x00", inConnect, MalformedPacket)
	f("\x15\x00\x02m", inConnect, MalformedPacket)
	f("\x16\x00\x02m", inConnect, MalformedPacket)
	f("\x26\x00\x01k", inConnect, MalformedPacket)
	f("\x26\x00\x01k\x00\x01", inConnect, MalformedPacket)

	f("\x01\x02", inPublishClient, ProtocolError) // one row per value range
	f("\x0B\x00", inSubscribe, ProtocolError)
	f("\x17\x02", inConnect, ProtocolError)             // U5-3.1.2.11.7
	f("\x19\x02", inConnect, ProtocolError)             // U5-3.1.2.11.6
	f("\x21\x00\x00", inConnect, ProtocolError)         // U5-3.1.2.11.3
	f("\x27\x00\x00\x00\x00", inConnect, ProtocolError) // U5-3.1.2.11.4
	f("\x24\x02", inConnack, ProtocolError)             // U5-3.2.2.3-zero
	f("\x25\x02", inConnack, ProtocolError)
	f("\x28\x02", inConnack, ProtocolError)
	f("\x29\x02", inConnack, ProtocolError)
	f("\x2A\xFF", inConnack, ProtocolError)
	f("\x23\x00\x00", inPublishServer, TopicAliasInvalid)
	f("\x08\x00\x03a/#", inWill, ProtocolError)
	f("\x0B\x01", inPublishClient, ProtocolError)                // [MQTT-3.3.4-6]
	f("\x11\x00\x00\x00\x01", inDisconnectServer, ProtocolError) // [MQTT-3.14.2-2]
	f("\x16\x00\x00", inConnect, ProtocolError)                  // U5-3.1.2.11.10
	f("\x16\x00\x00", inConnack, ProtocolError)

	for _, bad := range badStrings { // every string field [MQTT-1.5.4-1] [MQTT-1.5.4-2]
		f("\x03"+field(bad), inPublishClient, MalformedPacket)
		f("\x08"+field(bad), inPublishClient, MalformedPacket)
		f("\x12"+field(bad), inConnack, MalformedPacket)
		f("\x15"+field(bad), inAuth, MalformedPacket)
		f("\x1A"+field(bad), inConnack, MalformedPacket)
		f("\x1C"+field(bad), inConnack, MalformedPacket)
		f("\x1F"+field(bad), inAck, MalformedPacket)
		f("\x26"+field(bad)+field("v"), inAck, MalformedPacket) // [MQTT-1.5.7-1]
		f("\x26"+field("k")+field(bad), inAck, MalformedPacket)
		if _, err := Properties("\x09" + field(bad)).check(inWill); err != nil {
			t.Errorf("Correlation Data % X: %v", bad, err)
		}
		if _, err := Properties("\x16" + field(bad)).check(inAuth); err != nil {
			t.Errorf("Authentication Data % X: %v", bad, err)
		}
	}
}

func TestPropertiesRead(t *testing.T) {
	p := AppendUint(nil, PayloadFormatIndicator, 1)
	p = AppendUserProperty(p, "k", "v")
	p = AppendUint(p, SubscriptionIdentifier, 300)
	p = AppendBytes(p, CorrelationData, []byte{0, 1})
	p = AppendUserProperty(p, "k", "w")
	p = AppendUint(p, SubscriptionIdentifier, MaxRemainingLength)
	p = AppendUint(p, ReceiveMaximum, 65535)
	p = AppendUint(p, SessionExpiryInterval, 0xFFFFFFFF)
	const want = "\x01\x01\x26\x00\x01k\x00\x01v\x0B\xAC\x02\x09\x00\x02\x00\x01\x26\x00\x01k\x00\x01w\x0B\xFF\xFF\xFF\x7F\x21\xFF\xFF\x11\xFF\xFF\xFF\xFF"
	if string(p) != want {
		t.Errorf("encoded % X\nwant    % X", []byte(p), want)
	}

	var got []string
	for prop := range p.All() {
		got = append(got, fmt.Sprintf("%v=%d%q%q", prop.ID, prop.Uint, prop.Bytes, prop.Value))
	}
	const wantAll = `Payload Format Indicator=1"""";User Property=0"k""v";Subscription Identifier=300"""";` +
		`Correlation Data=0"\x00\x01""";User Property=0"k""w";Subscription Identifier=268435455"""";` +
		`Receive Maximum=65535"""";Session Expiry Interval=4294967295""""`
	if all := strings.Join(got, ";"); all != wantAll {
		t.Errorf("All: %s\nwant %s", all, wantAll)
	}
	for prop := range p.All() {
		if prop.ID != PayloadFormatIndicator {
			t.Errorf("All went on after break: %v", prop.ID)
		}
		break
	}

	f := func(id PropertyID, want uint32, wantOK bool) {
		t.Helper()
		if got, ok := p.Uint(id); got != want || ok != wantOK {
			t.Errorf("Uint(%v) = %d, %v, want %d, %v", id, got, ok, want, wantOK)
		}
	}
	f(SubscriptionIdentifier, 300, true) // the first
	f(SessionExpiryInterval, 0xFFFFFFFF, true)
	f(TopicAlias, 0, false)

	g := func(id PropertyID, want string, wantOK bool) {
		t.Helper()
		if got, ok := p.Bytes(id); string(got) != want || ok != wantOK {
			t.Errorf("Bytes(%v) = %q, %v, want %q, %v", id, got, ok, want, wantOK)
		}
	}
	g(CorrelationData, "\x00\x01", true)
	g(ContentType, "", false)

	if got, ok := Properties("\x1F\x00\x05").Bytes(ReasonString); ok || got != nil {
		t.Errorf("Bytes of a property that is cut off = %q, %v", got, ok)
	}
	for prop := range Properties("\x1F\x00\x05").All() {
		t.Errorf("All yields a property that is cut off: %v", prop)
	}
}

// TestPublishLift checks what ParsePublish takes out of the properties, wherever it stands.
func TestPublishLift(t *testing.T) {
	f := func(encoded, want string, wantAlias uint16, wantExpiry uint32, wantHasExpiry bool) {
		t.Helper()
		body := []byte(field("t") + props(encoded) + "payload")
		var p Publish
		if err := ParsePublish(&p, 0, body, V5, FromClient); err != nil {
			t.Fatal(err)
		}
		if string(p.Properties) != want || p.TopicAlias != wantAlias || p.MessageExpiry != wantExpiry || p.HasMessageExpiry != wantHasExpiry {
			t.Errorf("ParsePublish = %+v", p)
		}
		_ = append(p.Properties, make([]byte, 64)...)
		_ = append(p.Topic, make([]byte, 64)...)
		if string(p.Payload) != "payload" || string(p.Topic) != "t" {
			t.Errorf("appending to a borrowed field changed topic %q or payload %q", p.Topic, p.Payload)
		}
	}
	const alias, expiry, user, format = "\x23\x01\x02", "\x02\x00\x00\x01\x00", "\x26\x00\x01k\x00\x01v", "\x01\x01"
	f("", "", 0, 0, false)
	f(user, user, 0, 0, false)
	f(alias, "", 258, 0, false)
	f(expiry, "", 0, 256, true)
	f("\x02\x00\x00\x00\x00", "", 0, 0, true)
	f(alias+expiry, "", 258, 256, true)
	f(expiry+alias+user, user, 258, 256, true)
	f(user+format+alias, user+format, 258, 0, false)
	f(user+expiry+user+alias+format, user+user+format, 258, 256, true)
}
