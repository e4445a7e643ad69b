package codec

// An Error is a mistake of the peer, with the Reason Code to answer it with (in 3.x: by closing).
// The values are shared and read-only: most are made once, so that hostile input allocates nothing.
type Error struct {
	Code   ReasonCode
	Detail string // what was wrong, for logs; never holds bytes of the peer
}

// Error returns the name of the code and the detail.
func (e *Error) Error() string { return "codec: " + e.Code.String() + ": " + e.Detail }

// Malformed packets: what cannot be parsed.
var (
	errShort            = &Error{MalformedPacket, "the packet ends inside a field"}
	errTrailing         = &Error{MalformedPacket, "bytes are left over after the last field"}
	errVarint           = &Error{MalformedPacket, "variable byte integer is too long"}
	errPacketType       = &Error{MalformedPacket, "reserved packet type"}
	errFlags            = &Error{MalformedPacket, "reserved flags of the fixed header are set"}
	errNotEmpty         = &Error{MalformedPacket, "PINGREQ or PINGRESP is not empty"}
	errQoS3             = &Error{MalformedPacket, "QoS is 3"}
	errDupQoS0          = &Error{MalformedPacket, "DUP is set with QoS 0"}
	errUTF8             = &Error{MalformedPacket, "string is not valid UTF-8"}
	errNUL              = &Error{MalformedPacket, "string has a NUL character"}
	errPropertyLength   = &Error{MalformedPacket, "Property Length does not fit the packet"}
	errPropertyUnknown  = &Error{MalformedPacket, "unknown property"}
	errPropertyHere     = &Error{MalformedPacket, "property is not allowed in this packet"}
	errConnectFlags     = &Error{MalformedPacket, "reserved connect flag is set"}
	errWillFlags        = &Error{MalformedPacket, "Will QoS or Will Retain without Will Flag"}
	errPasswordAlone    = &Error{MalformedPacket, "password without user name"}
	errConnackFlags     = &Error{MalformedPacket, "reserved acknowledge flags are set"}
	errOptions          = &Error{MalformedPacket, "reserved subscription options are set"}
	errEmptyTopicLegacy = &Error{MalformedPacket, "topic name is empty"}
)

// Protocol errors: well formed, but not allowed.
var (
	errPropertyTwice    = &Error{ProtocolError, "property is given twice"}
	errPropertyValue    = &Error{ProtocolError, "property value is out of range"}
	errPropertySide     = &Error{ProtocolError, "property must not be sent in this direction"}
	errResponseTopic    = &Error{ProtocolError, "Response Topic has a wildcard"}
	errAuthDataAlone    = &Error{ProtocolError, "Authentication Data without Authentication Method"}
	errAuthMethod       = &Error{ProtocolError, "AUTH without Authentication Method"}
	errPacketID         = &Error{ProtocolError, "packet identifier is 0"}
	errReasonCode       = &Error{ProtocolError, "reason code is not allowed in this packet"}
	errEmptyTopic       = &Error{ProtocolError, "topic name is empty and there is no topic alias"}
	errEmptyWillTopic   = &Error{ProtocolError, "will topic is empty"}
	errNoFilters        = &Error{ProtocolError, "no topic filter"}
	errNoCodes          = &Error{ProtocolError, "no reason code"}
	errRetainHandling   = &Error{ProtocolError, "Retain Handling is 3"}
	errSubscriptionQoS  = &Error{ProtocolError, "requested QoS is 3"}
	errNoLocalShared    = &Error{ProtocolError, "No Local on a shared subscription"}
	errServerDisconnect = &Error{ProtocolError, "a 3.x server sends no DISCONNECT"}
)

// Mistakes with a Reason Code of their own.
var (
	errTopicName       = &Error{TopicNameInvalid, "topic name has a wildcard or begins with $share/"}
	errTopicAlias      = &Error{TopicAliasInvalid, "topic alias is 0"}
	errProtocolName    = &Error{UnsupportedProtocolVersion, "unknown protocol name"}
	errProtocolVersion = &Error{UnsupportedProtocolVersion, "unsupported protocol version"}
	errTooManyFilters  = &Error{QuotaExceeded, "too many topic filters in one packet"}
)
