package codec

// A Connack is a CONNACK packet.
type Connack struct {
	SessionPresent bool
	Code           ReasonCode // in 3.x a return code, 0 to 5: see [ConnackV3]
	Properties     Properties // borrowed from the body
}

// maxReturnCode is the last return code of a 3.x CONNACK: not authorized.
const maxReturnCode = 5

// ParseConnack parses the body of a CONNACK.
func ParseConnack(body []byte, v Version) (Connack, error) {
	r := reader{b: body}
	flags := r.byte()
	c := Connack{SessionPresent: flags&1 != 0, Code: ReasonCode(r.byte())}
	c.Properties, _ = r.properties(v, inConnack)
	if err := r.end(); err != nil {
		return c, err
	}
	if v == V31 { // M31-connack
		c.SessionPresent = false
	} else if flags > 1 { // [MQTT-3.2.2-1]
		return c, errConnackFlags
	}
	if v == V5 && !c.Code.allowed(ca, FromServer) || v != V5 && c.Code > maxReturnCode { // [MQTT-3.2.2-8]
		return c, errReasonCode
	}
	return c, nil
}

// Append appends the packet. 3.1 has no Session Present.
func (c *Connack) Append(dst []byte, v Version) []byte {
	dst = appendHeader(dst, CONNACK, 0, 2+propertiesSize(v, len(c.Properties)))
	var flags byte
	if c.SessionPresent && v != V31 {
		flags = 1
	}
	return appendProperties(append(dst, flags, byte(c.Code)), v, c.Properties)
}
