package codec

import "testing"

func TestConnectGolden(t *testing.T) {
	f := func(wire string, c *Connect) {
		t.Helper()
		checkGolden(t, 0, FromClient, wire, c)
		checkPrefixes(wire, 0, FromClient)
	}
	f("\x10\x0D\x00\x04MQTT\x04\x02\x00\x3C\x00\x01c",
		&Connect{Version: V311, CleanStart: true, KeepAlive: 60, ClientID: []byte("c")})
	f("\x10\x0E\x00\x06MQIsdp\x03\x00\x00\x00\x00\x00", &Connect{Version: V31})
	f("\x10\x19\x00\x04MQTT\x04\xC0\xFF\xFF\x00\x00\x00\x04user\x00\x05p\x00\xFFss",
		&Connect{Version: V311, KeepAlive: 65535, HasUserName: true, UserName: []byte("user"), HasPassword: true, Password: []byte("p\x00\xFFss")})
	f("\x10\x16\x00\x04MQTT\x04\x2C\x00\x00\x00\x01c\x00\x03w/t\x00\x02hi",
		&Connect{Version: V311, ClientID: []byte("c"), Will: &Will{Topic: []byte("w/t"), Payload: []byte("hi"), QoS: 1, Retain: true}})
	f("\x10\x0D\x00\x04MQTT\x05\x00\x00\x00\x00\x00\x00", &Connect{Version: V5})
	f("\x10\x17\x00\x04MQTT\x05\x42\x00\x0A\x05\x11\xFF\xFF\xFF\xFF\x00\x00\x00\x03pwd", // a password alone is legal in 5.0
		&Connect{Version: V5, CleanStart: true, KeepAlive: 10, HasPassword: true, Password: []byte("pwd"),
			Properties: AppendUint(nil, SessionExpiryInterval, 0xFFFFFFFF)})
	f("\x10\x29\x00\x04MQTT\x05\x16\x00\x0A\x03\x21\x00\x40\x00\x01c"+
		"\x10\x18\x00\x00\x00\x05\x02\x00\x00\x00\x09\x03\x00\x03a/b\x00\x01w\x00\x02\x00\x01",
		&Connect{Version: V5, CleanStart: true, KeepAlive: 10, ClientID: []byte("c"), Properties: AppendUint(nil, ReceiveMaximum, 64),
			Will: &Will{Topic: []byte("w"), Payload: []byte{0, 1}, QoS: 2, Properties: AppendBytes(nil, ContentType, "a/b"),
				DelayInterval: 5, MessageExpiry: 9, HasMessageExpiry: true}})
}

// TestConnectLenient holds what 3.1 takes that is not as one would write it.
func TestConnectLenient(t *testing.T) {
	f := func(rest string, c *Connect) {
		t.Helper()
		c.Version = V31
		checkDecode(t, 0, FromClient, wire(0x10, field("MQIsdp")+"\x03"+rest), c)
	}
	f("\x01\x00\x00\x00\x01c", &Connect{ClientID: []byte("c")}) // M31-willflags
	f("\x38\x00\x00\x00\x01c", &Connect{ClientID: []byte("c")})
	f("\x80\x00\x00\x00\x01c", &Connect{ClientID: []byte("c")}) // M31-login
	f("\xC0\x00\x00\x00\x01c", &Connect{ClientID: []byte("c")})
	f("\xC0\x00\x00\x00\x01c\x00\x01u", &Connect{ClientID: []byte("c"), HasUserName: true, UserName: []byte("u")})
	f("\xC0\x00\x00\x00\x01c\x00\x00\x00\x00", &Connect{ClientID: []byte("c"), HasUserName: true, HasPassword: true})
}

func TestConnackGolden(t *testing.T) {
	f := func(v Version, wire string, c *Connack) {
		t.Helper()
		checkGolden(t, v, FromServer, wire, c)
		checkPrefixes(wire, v, FromServer)
	}
	f(V31, "\x20\x02\x00\x05", &Connack{Code: 5})
	f(V311, "\x20\x02\x01\x00", &Connack{SessionPresent: true})
	f(V5, "\x20\x03\x00\x87\x00", &Connack{Code: NotAuthorized})
	f(V5, "\x20\x0A\x01\x00\x07\x24\x01\x12\x00\x02id", &Connack{SessionPresent: true,
		Properties: AppendBytes(AppendUint(nil, MaximumQoS, 1), AssignedClientIdentifier, "id")})
	checkDecode(t, V31, FromServer, "\x20\x02\x01\x00", &Connack{}) // M31-connack: the byte is reserved
	if got := (&Connack{SessionPresent: true}).Append(nil, V31); string(got) != "\x20\x02\x00\x00" {
		t.Errorf("a 3.1 CONNACK has Session Present: % X", got)
	}
}

func TestAckGolden(t *testing.T) {
	f := func(v Version, wire string, typ PacketType, a Ack) {
		t.Helper()
		checkGolden(t, v, FromServer, wire, ackPacket{a, typ})
		checkPrefixes(wire, v, FromServer)
	}
	f(V31, "\x40\x02\x00\x01", PUBACK, Ack{PacketID: 1})
	f(V311, "\x50\x02\xFF\xFF", PUBREC, Ack{PacketID: 65535})
	f(V311, "\x62\x02\x00\x01", PUBREL, Ack{PacketID: 1})
	f(V5, "\x70\x02\x01\x00", PUBCOMP, Ack{PacketID: 256})
	f(V5, "\x40\x03\x00\x01\x10", PUBACK, Ack{PacketID: 1, Code: NoMatchingSubscribers})
	f(V5, "\x62\x03\x00\x01\x92", PUBREL, Ack{PacketID: 1, Code: PacketIdentifierNotFound})
	f(V5, "\x50\x09\x00\x01\x87\x05\x1F\x00\x02no", PUBREC, Ack{PacketID: 1, Code: NotAuthorized,
		Properties: AppendBytes(nil, ReasonString, "no")})
	f(V5, "\x40\x0B\x00\x01\x00\x07\x26\x00\x01k\x00\x01v", PUBACK, Ack{PacketID: 1, Properties: AppendUserProperty(nil, "k", "v")})

	g := func(wire string, typ PacketType, a Ack) { // U5-3.4.2-short: longer forms than ours
		t.Helper()
		checkDecode(t, V5, FromServer, wire, ackPacket{a, typ})
	}
	g("\x40\x03\x00\x01\x00", PUBACK, Ack{PacketID: 1})
	g("\x40\x04\x00\x01\x00\x00", PUBACK, Ack{PacketID: 1})
	g("\x62\x04\x00\x01\x92\x00", PUBREL, Ack{PacketID: 1, Code: PacketIdentifierNotFound})

	if got := AppendAck(nil, V311, PUBREC, 1, NotAuthorized, AppendBytes(nil, ReasonString, "no")); string(got) != "\x50\x02\x00\x01" {
		t.Errorf("a 3.1.1 PUBREC has more than an identifier: % X", got)
	}
}

func TestSubscribeGolden(t *testing.T) {
	f := func(v Version, wire string, s *Subscribe) {
		t.Helper()
		checkGolden(t, v, FromClient, wire, s)
		checkPrefixes(wire, v, FromClient)
	}
	f(V311, "\x82\x06\x00\x0A\x00\x01#\x02", &Subscribe{PacketID: 10, Filters: []Subscription{{Filter: []byte("#"), QoS: 2}}})
	f(V5, "\x82\x10\x00\x0A\x00\x00\x01a\x2D\x00\x03b/+\x10\x00\x00\x00", &Subscribe{PacketID: 10, Filters: []Subscription{
		{Filter: []byte("a"), QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 2},
		{Filter: []byte("b/+"), RetainHandling: 1}, {}}})
	f(V5, "\x82\x11\x00\x0A\x0A\x0B\x80\x01\x26\x00\x01k\x00\x01v\x00\x01a\x00", &Subscribe{PacketID: 10, SubscriptionID: 128,
		Properties: AppendUserProperty(nil, "k", "v"), Filters: []Subscription{{Filter: []byte("a")}}})
	// Wildcards and share names are judged filter by filter, not here.
	f(V5, "\x82\x14\x00\x0A\x00\x00\x08$share//\x00\x00\x03a#b\x00", &Subscribe{PacketID: 10, Filters: []Subscription{
		{Filter: []byte("$share//")}, {Filter: []byte("a#b")}}})

	s := Subscribe{PacketID: 1, SubscriptionID: 5, Filters: []Subscription{{Filter: []byte("a"), QoS: 1, NoLocal: true, RetainHandling: 2}}}
	if got := s.Append(nil, V311); string(got) != "\x82\x06\x00\x01\x00\x01a\x01" {
		t.Errorf("a 3.1.1 SUBSCRIBE has more than filters and QoS: % X", got)
	}
}

func TestSubackGolden(t *testing.T) {
	f := func(v Version, wire string, p packet) {
		t.Helper()
		checkGolden(t, v, FromServer, wire, p)
		checkPrefixes(wire, v, FromServer)
	}
	f(V311, "\x90\x05\x00\x0A\x00\x02\x80", &Suback{PacketID: 10, Codes: []ReasonCode{Success, GrantedQoS2, UnspecifiedError}})
	f(V31, "\x90\x03\x00\x0A\x01", &Suback{PacketID: 10, Codes: []ReasonCode{GrantedQoS1}})
	f(V5, "\x90\x0A\x00\x0A\x05\x1F\x00\x02no\x87\x8F", &Suback{PacketID: 10, Codes: []ReasonCode{NotAuthorized, TopicFilterInvalid},
		Properties: AppendBytes(nil, ReasonString, "no")})
	f(V311, "\xB0\x02\x00\x0A", &Unsuback{PacketID: 10})
	f(V5, "\xB0\x05\x00\x0A\x00\x00\x11", &Unsuback{PacketID: 10, Codes: []ReasonCode{Success, NoSubscriptionExisted}})
	if got := (&Unsuback{PacketID: 1, Codes: []ReasonCode{0}}).Append(nil, V311); string(got) != "\xB0\x02\x00\x01" {
		t.Errorf("a 3.1.1 UNSUBACK has more than an identifier: % X", got)
	}
}

func TestUnsubscribeGolden(t *testing.T) {
	f := func(v Version, wire string, u *Unsubscribe) {
		t.Helper()
		checkGolden(t, v, FromClient, wire, u)
		checkPrefixes(wire, v, FromClient)
	}
	f(V311, "\xA2\x08\x00\x0A\x00\x01#\x00\x01a", &Unsubscribe{PacketID: 10, Filters: [][]byte{[]byte("#"), []byte("a")}})
	f(V5, "\xA2\x0D\x00\x0A\x07\x26\x00\x01k\x00\x01v\x00\x01#",
		&Unsubscribe{PacketID: 10, Properties: AppendUserProperty(nil, "k", "v"), Filters: [][]byte{[]byte("#")}})
}

func TestDisconnectGolden(t *testing.T) {
	f := func(v Version, from Side, wire string, d *Disconnect) {
		t.Helper()
		checkGolden(t, v, from, wire, d)
		checkPrefixes(wire, v, from)
	}
	f(V31, FromClient, "\xE0\x00", &Disconnect{})
	f(V311, FromClient, "\xE0\x00", &Disconnect{})
	f(V5, FromClient, "\xE0\x00", &Disconnect{}) // U5-3.14.2.1-short
	f(V5, FromClient, "\xE0\x01\x04", &Disconnect{Code: DisconnectWithWill})
	f(V5, FromServer, "\xE0\x01\x8E", &Disconnect{Code: SessionTakenOver})
	f(V5, FromClient, "\xE0\x07\x00\x05\x11\x00\x00\x00\x3C", &Disconnect{Properties: AppendUint(nil, SessionExpiryInterval, 60)})
	f(V5, FromServer, "\xE0\x06\x9D\x04\x1C\x00\x01b", &Disconnect{Code: ServerMoved, Properties: AppendBytes(nil, ServerReference, "b")})
	checkDecode(t, V5, FromClient, "\xE0\x01\x00", &Disconnect{})
	checkDecode(t, V5, FromClient, "\xE0\x02\x04\x00", &Disconnect{Code: DisconnectWithWill})
}

func TestAuthGolden(t *testing.T) {
	f := func(from Side, wire string, a *Auth) {
		t.Helper()
		checkGolden(t, V5, from, wire, a)
		checkPrefixes(wire, V5, from)
	}
	f(FromServer, "\xF0\x00", &Auth{})
	f(FromClient, "\xF0\x06\x19\x04\x15\x00\x01m", &Auth{Code: ReAuthenticate, Properties: AppendBytes(nil, AuthenticationMethod, "m")})
	f(FromServer, "\xF0\x0A\x18\x08\x15\x00\x01m\x16\x00\x01\xFF", &Auth{Code: ContinueAuthentication,
		Properties: AppendBytes(AppendBytes(nil, AuthenticationMethod, "m"), AuthenticationData, []byte{0xFF})})
	checkDecode(t, V5, FromServer, "\xF0\x02\x00\x00", &Auth{})
}

func TestPingGolden(t *testing.T) {
	checkGolden(t, V311, FromClient, "\xC0\x00", pingPacket{PINGREQ})
	checkGolden(t, V5, FromServer, "\xD0\x00", pingPacket{PINGRESP})
}
