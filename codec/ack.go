package codec

// An Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP; which one, its PacketType says beside it.
type Ack struct {
	PacketID   uint16
	Code       ReasonCode // Success in 3.x
	Properties Properties // borrowed from the body
}

// ackCodes returns the table of codes of an acknowledgement of that type.
func ackCodes(t PacketType) codeSet {
	switch t {
	case PUBACK:
		return pa
	case PUBREC:
		return pr
	case PUBREL:
		return pl
	case PUBCOMP:
		return pc
	default:
		panic("codec: not an acknowledgement: " + t.String())
	}
}

// ParseAck parses the body of an acknowledgement of type t. It allocates nothing, and panics if t is
// none of the four.
func ParseAck(t PacketType, body []byte, v Version) (Ack, error) {
	codes := ackCodes(t)
	r := reader{b: body}
	a := Ack{PacketID: r.packetID()}
	if v != V5 || len(r.b) == 0 {
		return a, r.end()
	}
	a.Code = ReasonCode(r.byte())
	if !a.Code.allowed(codes, FromServer) && !a.Code.allowed(codes, FromClient) { // U5-2.4
		return a, errReasonCode
	}
	if len(r.b) > 0 { // U5-3.4.2-short
		a.Properties, _ = r.properties(v, inAck)
	}
	return a, r.end()
}

// AppendAck appends an acknowledgement of type t in its shortest legal form. In 3.x code and props are
// left out.
func AppendAck(dst []byte, v Version, t PacketType, id uint16, code ReasonCode, props Properties) []byte {
	var flags uint8
	if t == PUBREL { // [MQTT-3.6.1-1]
		flags = flagQoS1
	}
	first := byte(t)<<4 | flags
	switch {
	case v != V5 || code == Success && len(props) == 0:
		return append(dst, first, 2, byte(id>>8), byte(id))
	case len(props) == 0:
		return append(dst, first, 3, byte(id>>8), byte(id), byte(code))
	default:
		dst = appendHeader(dst, t, flags, 3+propertiesSize(v, len(props)))
		return appendProperties(append(dst, byte(id>>8), byte(id), byte(code)), v, props)
	}
}
