package codec

// An Unsubscribe is an UNSUBSCRIBE packet. All slices but Filters itself are borrowed from the body.
type Unsubscribe struct {
	PacketID   uint16
	Properties Properties
	Filters    [][]byte // UTF-8 strings, checked no further
}

// ParseUnsubscribe parses the body of an UNSUBSCRIBE. The space of u.Filters is used again.
func ParseUnsubscribe(u *Unsubscribe, body []byte, v Version) error {
	*u = Unsubscribe{Filters: u.Filters[:0]}
	r := reader{b: body}
	u.PacketID = r.packetID()
	u.Properties, _ = r.properties(v, inUnsubscribe)
	for len(r.b) > 0 {
		if len(u.Filters) == MaxFilters {
			return errTooManyFilters
		}
		u.Filters = append(u.Filters, r.string())
	}
	if r.err != nil {
		return r.err
	}
	if len(u.Filters) == 0 { // [MQTT-3.10.3-2]
		return errNoFilters
	}
	return nil
}

// Append appends the packet. Filters must be shorter than [MaxFieldLength].
func (u *Unsubscribe) Append(dst []byte, v Version) []byte {
	remaining := 2 + propertiesSize(v, len(u.Properties))
	for _, filter := range u.Filters {
		remaining += 2 + len(filter)
	}
	dst = appendHeader(dst, UNSUBSCRIBE, flagQoS1, remaining)
	dst = appendProperties(append(dst, byte(u.PacketID>>8), byte(u.PacketID)), v, u.Properties)
	for _, filter := range u.Filters {
		dst = appendField(dst, filter)
	}
	return dst
}
