package codec

import "fmt"

// A ReasonCode is the outcome of a request, as MQTT 5.0 numbers it. In 3.x a CONNACK carries the
// codes of [ConnackV3] in its place, and a SUBACK 0x00 to 0x02 and 0x80.
type ReasonCode uint8

// The Reason Codes of MQTT 5.0 section 2.4.
const (
	Success                             ReasonCode = 0x00 // also Normal disconnection, Granted QoS 0
	GrantedQoS1                         ReasonCode = 0x01
	GrantedQoS2                         ReasonCode = 0x02
	DisconnectWithWill                  ReasonCode = 0x04
	NoMatchingSubscribers               ReasonCode = 0x10
	NoSubscriptionExisted               ReasonCode = 0x11
	ContinueAuthentication              ReasonCode = 0x18
	ReAuthenticate                      ReasonCode = 0x19
	UnspecifiedError                    ReasonCode = 0x80
	MalformedPacket                     ReasonCode = 0x81
	ProtocolError                       ReasonCode = 0x82
	ImplementationSpecificError         ReasonCode = 0x83
	UnsupportedProtocolVersion          ReasonCode = 0x84
	ClientIdentifierNotValid            ReasonCode = 0x85
	BadUserNameOrPassword               ReasonCode = 0x86
	NotAuthorized                       ReasonCode = 0x87
	ServerUnavailable                   ReasonCode = 0x88
	ServerBusy                          ReasonCode = 0x89
	Banned                              ReasonCode = 0x8A
	ServerShuttingDown                  ReasonCode = 0x8B
	BadAuthenticationMethod             ReasonCode = 0x8C
	KeepAliveTimeout                    ReasonCode = 0x8D
	SessionTakenOver                    ReasonCode = 0x8E
	TopicFilterInvalid                  ReasonCode = 0x8F
	TopicNameInvalid                    ReasonCode = 0x90
	PacketIdentifierInUse               ReasonCode = 0x91
	PacketIdentifierNotFound            ReasonCode = 0x92
	ReceiveMaximumExceeded              ReasonCode = 0x93
	TopicAliasInvalid                   ReasonCode = 0x94
	PacketTooLarge                      ReasonCode = 0x95
	MessageRateTooHigh                  ReasonCode = 0x96
	QuotaExceeded                       ReasonCode = 0x97
	AdministrativeAction                ReasonCode = 0x98
	PayloadFormatInvalid                ReasonCode = 0x99
	RetainNotSupported                  ReasonCode = 0x9A
	QoSNotSupported                     ReasonCode = 0x9B
	UseAnotherServer                    ReasonCode = 0x9C
	ServerMoved                         ReasonCode = 0x9D
	SharedSubscriptionsNotSupported     ReasonCode = 0x9E
	ConnectionRateExceeded              ReasonCode = 0x9F
	MaximumConnectTime                  ReasonCode = 0xA0
	SubscriptionIdentifiersNotSupported ReasonCode = 0xA1
	WildcardSubscriptionsNotSupported   ReasonCode = 0xA2
)

// A codeSet is a set of the packets that carry a Reason Code.
type codeSet uint16

const (
	ca codeSet = 1 << iota // CONNACK
	pa                     // PUBACK
	pr                     // PUBREC
	pl                     // PUBREL
	pc                     // PUBCOMP
	sa                     // SUBACK
	ua                     // UNSUBACK
	di                     // DISCONNECT
	au                     // AUTH
)

// reasonCodes says of each code in which packets the server and the client may send it.
var reasonCodes = [...]struct {
	name           string
	server, client codeSet
}{
	Success:                             {"success", ca | pa | pr | pl | pc | sa | ua | di | au, pa | pr | pl | pc | di},
	GrantedQoS1:                         {"granted QoS 1", sa, 0},
	GrantedQoS2:                         {"granted QoS 2", sa, 0},
	DisconnectWithWill:                  {"disconnect with will message", 0, di},
	NoMatchingSubscribers:               {"no matching subscribers", pa | pr, 0},
	NoSubscriptionExisted:               {"no subscription existed", ua, 0},
	ContinueAuthentication:              {"continue authentication", au, au},
	ReAuthenticate:                      {"re-authenticate", 0, au},
	UnspecifiedError:                    {"unspecified error", ca | pa | pr | sa | ua | di, pa | pr | di},
	MalformedPacket:                     {"malformed packet", ca | di, di},
	ProtocolError:                       {"protocol error", ca | di, di},
	ImplementationSpecificError:         {"implementation specific error", ca | pa | pr | sa | ua | di, pa | pr | di},
	UnsupportedProtocolVersion:          {"unsupported protocol version", ca, 0},
	ClientIdentifierNotValid:            {"client identifier not valid", ca, 0},
	BadUserNameOrPassword:               {"bad user name or password", ca, 0},
	NotAuthorized:                       {"not authorized", ca | pa | pr | sa | ua | di, pa | pr},
	ServerUnavailable:                   {"server unavailable", ca, 0},
	ServerBusy:                          {"server busy", ca | di, 0},
	Banned:                              {"banned", ca, 0},
	ServerShuttingDown:                  {"server shutting down", di, 0},
	BadAuthenticationMethod:             {"bad authentication method", ca | di, 0},
	KeepAliveTimeout:                    {"keep alive timeout", di, 0},
	SessionTakenOver:                    {"session taken over", di, 0},
	TopicFilterInvalid:                  {"topic filter invalid", sa | ua | di, 0},
	TopicNameInvalid:                    {"topic name invalid", ca | pa | pr | di, pa | pr | di},
	PacketIdentifierInUse:               {"packet identifier in use", pa | pr | sa | ua, pa | pr},
	PacketIdentifierNotFound:            {"packet identifier not found", pl | pc, pl | pc},
	ReceiveMaximumExceeded:              {"receive maximum exceeded", di, di},
	TopicAliasInvalid:                   {"topic alias invalid", di, di},
	PacketTooLarge:                      {"packet too large", ca | di, di},
	MessageRateTooHigh:                  {"message rate too high", di, di},
	QuotaExceeded:                       {"quota exceeded", ca | pa | pr | sa | di, pa | pr | di},
	AdministrativeAction:                {"administrative action", di, di},
	PayloadFormatInvalid:                {"payload format invalid", ca | pa | pr | di, pa | pr | di},
	RetainNotSupported:                  {"retain not supported", ca | di, 0},
	QoSNotSupported:                     {"QoS not supported", ca | di, 0},
	UseAnotherServer:                    {"use another server", ca | di, 0},
	ServerMoved:                         {"server moved", ca | di, 0},
	SharedSubscriptionsNotSupported:     {"shared subscriptions not supported", sa | di, 0},
	ConnectionRateExceeded:              {"connection rate exceeded", ca | di, 0},
	MaximumConnectTime:                  {"maximum connect time", di, 0},
	SubscriptionIdentifiersNotSupported: {"subscription identifiers not supported", sa | di, 0},
	WildcardSubscriptionsNotSupported:   {"wildcard subscriptions not supported", sa | di, 0},
}

// String returns the name of the code in plain words, or its number if MQTT 5.0 has no such code.
func (c ReasonCode) String() string {
	if int(c) < len(reasonCodes) && reasonCodes[c].name != "" {
		return reasonCodes[c].name
	}
	return fmt.Sprintf("reason code 0x%02X", uint8(c))
}

// Failure reports whether c says that the request failed (U5-2.4).
func (c ReasonCode) Failure() bool { return c >= 0x80 }

// allowed reports whether that side may send c in one of the packets in set.
func (c ReasonCode) allowed(set codeSet, from Side) bool {
	if int(c) >= len(reasonCodes) {
		return false
	}
	if from == FromServer {
		return reasonCodes[c].server&set != 0
	}
	return reasonCodes[c].client&set != 0
}

// ConnackV3 returns the 3.x CONNACK return code that stands for c. ok is false where none fits: then
// the connection is closed without a CONNACK [MQTT-3.2.2-8]. The standards leave the mapping open.
func ConnackV3(c ReasonCode) (code byte, ok bool) {
	switch c {
	case Success:
		return 0, true
	case UnsupportedProtocolVersion:
		return 1, true
	case ClientIdentifierNotValid:
		return 2, true
	case ServerUnavailable, ServerBusy, QuotaExceeded, ConnectionRateExceeded, UseAnotherServer, ServerMoved:
		return 3, true
	case BadUserNameOrPassword:
		return 4, true
	case NotAuthorized, Banned, BadAuthenticationMethod:
		return 5, true
	default:
		return 0, false
	}
}
