package codec

// A Suback is a SUBACK packet.
type Suback struct {
	PacketID   uint16
	Properties Properties   // borrowed from the body
	Codes      []ReasonCode // one per filter, in their order; in 3.x 0x00 to 0x02 and 0x80
}

// ParseSuback parses the body of a SUBACK. The space of s.Codes is used again.
func ParseSuback(s *Suback, body []byte, v Version) error {
	*s = Suback{Codes: s.Codes[:0]}
	r := reader{b: body}
	s.PacketID = r.packetID()
	s.Properties, _ = r.properties(v, inSuback)
	if r.err != nil {
		return r.err
	}
	for _, c := range r.b {
		code := ReasonCode(c)
		if !code.allowed(sa, FromServer) || v != V5 && code > GrantedQoS2 && code != UnspecifiedError {
			return errReasonCode
		}
		s.Codes = append(s.Codes, code)
	}
	if len(s.Codes) == 0 {
		return errNoCodes
	}
	return nil
}

// Append appends the packet, with the codes as they are.
func (s *Suback) Append(dst []byte, v Version) []byte {
	return appendCodes(dst, SUBACK, v, s.PacketID, s.Properties, s.Codes)
}

// An Unsuback is an UNSUBACK packet.
type Unsuback struct {
	PacketID   uint16
	Properties Properties   // borrowed from the body
	Codes      []ReasonCode // one per filter, in their order; none in 3.x
}

// ParseUnsuback parses the body of an UNSUBACK. The space of u.Codes is used again.
func ParseUnsuback(u *Unsuback, body []byte, v Version) error {
	*u = Unsuback{Codes: u.Codes[:0]}
	r := reader{b: body}
	u.PacketID = r.packetID()
	if v != V5 {
		return r.end()
	}
	u.Properties, _ = r.properties(v, inUnsuback)
	if r.err != nil {
		return r.err
	}
	for _, c := range r.b {
		if !ReasonCode(c).allowed(ua, FromServer) { // [MQTT-3.11.3-2]
			return errReasonCode
		}
		u.Codes = append(u.Codes, ReasonCode(c))
	}
	if len(u.Codes) == 0 {
		return errNoCodes
	}
	return nil
}

// Append appends the packet; in 3.x without codes.
func (u *Unsuback) Append(dst []byte, v Version) []byte {
	codes := u.Codes
	if v != V5 {
		codes = nil
	}
	return appendCodes(dst, UNSUBACK, v, u.PacketID, u.Properties, codes)
}

// appendCodes appends a packet that ends with a list of codes.
func appendCodes(dst []byte, t PacketType, v Version, id uint16, props Properties, codes []ReasonCode) []byte {
	dst = appendHeader(dst, t, 0, 2+propertiesSize(v, len(props))+len(codes))
	dst = appendProperties(append(dst, byte(id>>8), byte(id)), v, props)
	for _, c := range codes {
		dst = append(dst, byte(c))
	}
	return dst
}
