package codec

import (
	"fmt"
	"strings"
	"testing"
)

// TestReasonCodesByPacket holds the table of section 2.4 turned round: the codes of each packet.
func TestReasonCodesByPacket(t *testing.T) {
	f := func(name string, set codeSet, from Side, want string) {
		t.Helper()
		var got []string
		for c := range 256 {
			if ReasonCode(c).allowed(set, from) {
				got = append(got, fmt.Sprintf("%02X", c))
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s\nwant %s", name, strings.Join(got, " "), want)
		}
	}
	f("CONNACK", ca, FromServer, "00 80 81 82 83 84 85 86 87 88 89 8A 8C 90 95 97 99 9A 9B 9C 9D 9F")
	f("CONNACK", ca, FromClient, "")
	f("PUBACK", pa, FromServer, "00 10 80 83 87 90 91 97 99")
	f("PUBACK", pa, FromClient, "00 80 83 87 90 91 97 99")
	f("PUBREC", pr, FromServer, "00 10 80 83 87 90 91 97 99")
	f("PUBREC", pr, FromClient, "00 80 83 87 90 91 97 99")
	f("PUBREL", pl, FromServer, "00 92")
	f("PUBREL", pl, FromClient, "00 92")
	f("PUBCOMP", pc, FromServer, "00 92")
	f("PUBCOMP", pc, FromClient, "00 92")
	f("SUBACK", sa, FromServer, "00 01 02 80 83 87 8F 91 97 9E A1 A2")
	f("SUBACK", sa, FromClient, "")
	f("UNSUBACK", ua, FromServer, "00 11 80 83 87 8F 91")
	f("UNSUBACK", ua, FromClient, "")
	f("DISCONNECT", di, FromServer, "00 80 81 82 83 87 89 8B 8C 8D 8E 8F 90 93 94 95 96 97 98 99 9A 9B 9C 9D 9E 9F A0 A1 A2")
	f("DISCONNECT", di, FromClient, "00 04 80 81 82 83 90 93 94 95 96 97 98 99")
	f("AUTH", au, FromServer, "00 18")
	f("AUTH", au, FromClient, "18 19")
}

func TestConnackV3(t *testing.T) {
	f := func(c ReasonCode, want byte, wantOK bool) {
		t.Helper()
		if got, ok := ConnackV3(c); got != want || ok != wantOK {
			t.Errorf("ConnackV3(%v) = %d, %v, want %d, %v", c, got, ok, want, wantOK)
		}
	}
	f(Success, 0, true)
	f(UnsupportedProtocolVersion, 1, true)
	f(ClientIdentifierNotValid, 2, true)
	f(ServerUnavailable, 3, true)
	f(ServerBusy, 3, true)
	f(QuotaExceeded, 3, true)
	f(ConnectionRateExceeded, 3, true)
	f(UseAnotherServer, 3, true)
	f(ServerMoved, 3, true)
	f(BadUserNameOrPassword, 4, true)
	f(NotAuthorized, 5, true)
	f(Banned, 5, true)
	f(BadAuthenticationMethod, 5, true)
	for _, c := range []ReasonCode{UnspecifiedError, MalformedPacket, ProtocolError, ImplementationSpecificError,
		TopicNameInvalid, PacketTooLarge, PayloadFormatInvalid, RetainNotSupported, QoSNotSupported} {
		f(c, 0, false)
	}
}

func TestFailure(t *testing.T) {
	f := func(c ReasonCode, want bool) {
		t.Helper()
		if got := c.Failure(); got != want {
			t.Errorf("(%v).Failure() = %v, want %v", c, got, want)
		}
	}
	f(Success, false)
	f(ReAuthenticate, false)
	f(UnspecifiedError, true)
	f(WildcardSubscriptionsNotSupported, true)
}
