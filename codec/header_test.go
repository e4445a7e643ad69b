package codec

import "testing"

func TestReadHeader(t *testing.T) {
	f := func(b string, want Header, wantOK, wantErr bool) {
		t.Helper()
		h, ok, err := ReadHeader([]byte(b))
		if h != want || ok != wantOK || (err != nil) != wantErr {
			t.Errorf("ReadHeader(% X) = %+v, %v, %v, want %+v, %v, error %v", b, h, ok, err, want, wantOK, wantErr)
		}
	}
	f("", Header{}, false, false)
	f("\x30", Header{}, false, false)
	f("\xC0\x00", Header{PINGREQ, 0, 0, 2}, true, false)
	f("\x3D\x7Frest", Header{PUBLISH, 0xD, 127, 2}, true, false)
	f("\x30\x80", Header{}, false, false)
	f("\x30\x80\x01", Header{PUBLISH, 0, 128, 3}, true, false)
	f("\x30\xFF\x7F", Header{PUBLISH, 0, 16383, 3}, true, false)
	f("\x30\x80\x80", Header{}, false, false)
	f("\x30\x80\x80\x01", Header{PUBLISH, 0, 16384, 4}, true, false)
	f("\x30\xFF\xFF\x7F", Header{PUBLISH, 0, 2097151, 4}, true, false)
	f("\x30\x80\x80\x80", Header{}, false, false)
	f("\x30\x80\x80\x80\x01", Header{PUBLISH, 0, 2097152, 5}, true, false)
	f("\x30\xFF\xFF\xFF\x7F", Header{PUBLISH, 0, MaxRemainingLength, 5}, true, false)
	f("\x30\x80\x00", Header{}, false, true) // [MQTT-1.5.5-1]
	f("\x30\x81\x80\x00", Header{}, false, true)
	f("\x30\xFF\xFF\xFF\x00", Header{}, false, true)
	f("\x30\xFF\xFF\xFF\xFF", Header{}, false, true) // U5-1.5.5, seen before a fifth byte
	f("\x30\xFF\xFF\xFF\xFF\x01", Header{}, false, true)
}

func TestCheckFlags(t *testing.T) {
	// allowed lists the flags that each version takes, by type; 3.1 in a column of its own.
	f := func(typ PacketType, all, v31 string) {
		t.Helper()
		for _, v := range []Version{0, V31, V311, V5} {
			for flags := range uint8(16) {
				allowed := all
				if v == V31 {
					allowed = v31
				}
				want := false
				for _, c := range allowed {
					want = want || c == rune("0123456789ABCDEF"[flags])
				}
				err := Header{Type: typ, Flags: flags, Size: 2}.CheckFlags(v)
				if (err == nil) != want {
					t.Errorf("%v flags %X version %v: %v, want accepted %v", typ, flags, v, err, want)
				}
				if e, ok := err.(*Error); err != nil && (!ok || e.Code != MalformedPacket) {
					t.Errorf("%v flags %X version %v: %v, want %v", typ, flags, v, err, MalformedPacket)
				}
			}
		}
	}
	const every = "0123456789ABCDEF"
	f(0, "", "") // U5-2.1.2-type
	f(CONNECT, "0", every)
	f(CONNACK, "0", every)
	f(PUBLISH, "012345ABCD", "01234589ABCD") // [MQTT-3.3.1-2] [MQTT-3.3.1-4], M31-dup0
	f(PUBACK, "0", every)
	f(PUBREC, "0", every)
	f(PUBREL, "2", "2A") // [MQTT-3.6.1-1], M31-flags
	f(PUBCOMP, "0", every)
	f(SUBSCRIBE, "2", "2A") // [MQTT-3.8.1-1]
	f(SUBACK, "0", every)
	f(UNSUBSCRIBE, "2", "2A") // [MQTT-3.10.1-1]
	f(UNSUBACK, "0", every)
	f(PINGREQ, "0", every)
	f(PINGRESP, "0", every)
	f(DISCONNECT, "0", every) // [MQTT-3.14.1-1]
	f(16, "", "")

	g := func(typ PacketType, remaining int, v Version, want bool) {
		t.Helper()
		if err := (Header{Type: typ, Remaining: remaining, Size: 2}).CheckFlags(v); (err == nil) != want {
			t.Errorf("%v of length %d, version %v: %v, want accepted %v", typ, remaining, v, err, want)
		}
	}
	g(AUTH, 0, V5, true) // [MQTT-3.15.1-1]
	g(AUTH, 0, V311, false)
	g(AUTH, 0, V31, false)
	g(PINGREQ, 1, V5, false) // U5-3.12-len
	g(PINGREQ, 1, V31, false)
	g(PINGRESP, 1, V311, false)
}

func TestNames(t *testing.T) {
	f := func(got interface{ String() string }, want string) {
		t.Helper()
		if got.String() != want {
			t.Errorf("String() = %q, want %q", got.String(), want)
		}
	}
	f(CONNECT, "CONNECT")
	f(AUTH, "AUTH")
	f(PacketType(0), "packet type 0")
	f(PacketType(16), "packet type 16")
	f(V31, "3.1")
	f(V311, "3.1.1")
	f(V5, "5.0")
	f(Version(6), "version 6")
	f(SharedSubscriptionAvailable, "Shared Subscription Available")
	f(PropertyID(4), "property 0x04")
	f(PropertyID(0xFF), "property 0xFF")
	f(NotAuthorized, "not authorized")
	f(ReasonCode(0x03), "reason code 0x03")
	f(ReasonCode(0xFF), "reason code 0xFF")
	if got, want := errNUL.Error(), "codec: malformed packet: string has a NUL character"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}
