package codec

// A Disconnect is a DISCONNECT packet. In 3.x it is empty and comes from clients only.
type Disconnect struct {
	Code       ReasonCode
	Properties Properties // borrowed from the body
}

// ParseDisconnect parses the body of a DISCONNECT.
func ParseDisconnect(body []byte, v Version, from Side) (Disconnect, error) {
	r := reader{b: body}
	var d Disconnect
	if v != V5 {
		if from == FromServer {
			return d, errServerDisconnect
		}
		return d, r.end()
	}
	if len(body) == 0 { // U5-3.14.2.1-short
		return d, nil
	}
	d.Code = ReasonCode(r.byte())
	if !d.Code.allowed(di, from) { // [MQTT-3.14.2-1]
		return d, errReasonCode
	}
	if len(r.b) > 0 {
		in := inDisconnectClient
		if from == FromServer {
			in = inDisconnectServer
		}
		d.Properties, _ = r.properties(v, in)
	}
	return d, r.end()
}

// Append appends the packet in its shortest legal form.
func (d *Disconnect) Append(dst []byte, v Version) []byte {
	switch {
	case v != V5 || d.Code == Success && len(d.Properties) == 0:
		return append(dst, byte(DISCONNECT)<<4, 0)
	case len(d.Properties) == 0:
		return append(dst, byte(DISCONNECT)<<4, 1, byte(d.Code))
	default:
		dst = appendHeader(dst, DISCONNECT, 0, 1+propertiesSize(v, len(d.Properties)))
		return appendProperties(append(dst, byte(d.Code)), v, d.Properties)
	}
}
