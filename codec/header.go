package codec

import "strconv"

// A Version is a version of MQTT, with the number that CONNECT carries as protocol version.
type Version uint8

// The versions this package speaks. The zero Version means not known yet.
const (
	V31  Version = 3 // protocol name "MQIsdp"
	V311 Version = 4
	V5   Version = 5
)

// String returns the version as people write it.
func (v Version) String() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5.0"
	default:
		return "version " + strconv.Itoa(int(v))
	}
}

// A Side says who sent a packet, where the rules differ.
type Side uint8

// The two ends of a Network Connection.
const (
	FromClient Side = iota
	FromServer
)

// A QoS is a quality of service level; 3 exists on the wire only, as a mistake.
type QoS uint8

// The levels: at most once, at least once, exactly once.
const (
	QoS0 QoS = iota
	QoS1
	QoS2
)

// A PacketType is the type of a control packet, as in the high four bits of its first byte.
type PacketType uint8

// The types of control packets.
const (
	CONNECT PacketType = iota + 1
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
)

var packetTypeNames = [...]string{
	CONNECT: "CONNECT", CONNACK: "CONNACK", PUBLISH: "PUBLISH", PUBACK: "PUBACK", PUBREC: "PUBREC",
	PUBREL: "PUBREL", PUBCOMP: "PUBCOMP", SUBSCRIBE: "SUBSCRIBE", SUBACK: "SUBACK",
	UNSUBSCRIBE: "UNSUBSCRIBE", UNSUBACK: "UNSUBACK", PINGREQ: "PINGREQ", PINGRESP: "PINGRESP",
	DISCONNECT: "DISCONNECT", AUTH: "AUTH",
}

// String returns the standard's name of the type.
func (t PacketType) String() string {
	if t >= CONNECT && t <= AUTH {
		return packetTypeNames[t]
	}
	return "packet type " + strconv.Itoa(int(t))
}

// Flag bits of a PUBLISH; PUBREL, SUBSCRIBE and UNSUBSCRIBE carry those of QoS 1.
const (
	flagRetain  = 0x01
	flagQoS1    = 0x02
	flagQoSMask = 0x06
	flagDup     = 0x08
)

// A Header is the fixed header of a control packet.
type Header struct {
	Type      PacketType
	Flags     uint8
	Remaining int // bytes that follow the fixed header, 0 to [MaxRemainingLength]
	Size      int // bytes of the fixed header itself, 2 to [MaxHeaderSize]
}

// ReadHeader reads the fixed header at the start of b. With ok false and no error, more bytes are
// needed. A Remaining Length of more than four bytes, or longer than it need be, is malformed.
func ReadHeader(b []byte) (h Header, ok bool, err error) {
	if len(b) < 2 {
		return Header{}, false, nil
	}
	// Fast path: lengths below 128.
	if b[1] < 0x80 {
		return Header{PacketType(b[0] >> 4), b[0] & 0x0F, int(b[1]), 2}, true, nil
	}
	remaining, n, err := readVarint(b[1:])
	if n == 0 {
		return Header{}, false, err
	}
	return Header{PacketType(b[0] >> 4), b[0] & 0x0F, remaining, 1 + n}, true, nil
}

// CheckFlags checks what the fixed header alone can violate: a reserved type (U5-2.1.2-type), flags
// [MQTT-2.1.3-1], the emptiness of PINGREQ and PINGRESP (U5-3.12-len). Before the version is known,
// v is 0 and the rules of 3.1.1 and 5.0 hold.
func (h Header) CheckFlags(v Version) error {
	flags := h.Flags
	switch h.Type {
	case PUBLISH:
		return checkPublishFlags(flags, v)
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE: // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
		if v == V31 {
			flags &^= flagDup // M31-flags
		}
		if flags != flagQoS1 {
			return errFlags
		}
		return nil
	case PINGREQ, PINGRESP:
		if h.Remaining != 0 {
			return errNotEmpty
		}
	case AUTH:
		if v == V31 || v == V311 {
			return errPacketType
		}
	case CONNECT, CONNACK, PUBACK, PUBREC, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT:
	default:
		return errPacketType
	}
	if flags != 0 && v != V31 {
		return errFlags
	}
	return nil
}

// checkPublishFlags checks the flags of a PUBLISH.
func checkPublishFlags(flags uint8, v Version) error {
	if flags&flagQoSMask == flagQoSMask { // [MQTT-3.3.1-4]
		return errQoS3
	}
	if flags&(flagDup|flagQoSMask) == flagDup && v != V31 { // [MQTT-3.3.1-2], M31-dup0
		return errDupQoS0
	}
	return nil
}

// appendHeader appends a fixed header. It panics if remaining cannot be encoded: what the caller
// puts together must stay below [MaxRemainingLength].
func appendHeader(dst []byte, t PacketType, flags uint8, remaining int) []byte {
	if remaining > MaxRemainingLength {
		panic("codec: packet is longer than MaxRemainingLength")
	}
	return appendVarint(append(dst, byte(t)<<4|flags), remaining)
}
