package codec

import "github.com/wheelmq/wheelmq/codec/topic"

// A Subscription is one Topic Filter of a SUBSCRIBE with its options. In 3.x only the QoS exists.
type Subscription struct {
	Filter            []byte // a UTF-8 string, possibly empty or with misplaced wildcards; borrowed
	QoS               QoS
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    uint8 // 0 send retained messages, 1 only to a new subscription, 2 do not
}

// A Subscribe is a SUBSCRIBE packet. All slices but Filters itself are borrowed from the body.
type Subscribe struct {
	PacketID       uint16
	SubscriptionID uint32     // 0: none
	Properties     Properties // without the Subscription Identifier
	Filters        []Subscription
}

// Bits of the subscription options.
const (
	optionQoS               = 0x03
	optionNoLocal           = 0x04
	optionRetainAsPublished = 0x08
	optionRetainHandling    = 0x30
	optionReserved          = 0xC0
)

// ParseSubscribe parses the body of a SUBSCRIBE. The space of s.Filters is used again. Whether the
// filters are valid is left to the caller, who answers each by itself. It changes body as
// [ParsePublish] does.
func ParseSubscribe(s *Subscribe, body []byte, v Version) error {
	*s = Subscribe{Filters: s.Filters[:0]}
	r := reader{b: body}
	s.PacketID = r.packetID()
	var seen propertySet
	s.Properties, seen = r.properties(v, inSubscribe)
	if r.err != nil {
		return r.err
	}
	if seen.has(SubscriptionIdentifier) {
		s.SubscriptionID = s.Properties.lift(SubscriptionIdentifier)
	}
	for len(r.b) > 0 {
		if len(s.Filters) == MaxFilters {
			return errTooManyFilters
		}
		sub := Subscription{Filter: r.string()}
		options := r.byte()
		if r.err != nil {
			return r.err
		}
		if err := sub.setOptions(options, v); err != nil {
			return err
		}
		s.Filters = append(s.Filters, sub)
	}
	if len(s.Filters) == 0 { // [MQTT-3.8.3-2]
		return errNoFilters
	}
	return nil
}

// setOptions takes the options byte apart [MQTT-3.8.3-5].
func (s *Subscription) setOptions(options uint8, v Version) error {
	reserved := uint8(optionReserved)
	if v != V5 {
		reserved = ^uint8(optionQoS)
	}
	s.QoS = QoS(options & optionQoS)
	s.NoLocal = options&optionNoLocal != 0
	s.RetainAsPublished = options&optionRetainAsPublished != 0
	s.RetainHandling = options & optionRetainHandling >> 4
	switch {
	case options&reserved != 0:
		return errOptions
	case s.QoS > QoS2: // U5-3.8.3.1-rh3
		return errSubscriptionQoS
	case s.RetainHandling > 2:
		return errRetainHandling
	case s.NoLocal && topic.HasSharePrefix(s.Filter): // [MQTT-3.8.3-4]
		return errNoLocalShared
	}
	return nil
}

// options returns the options byte.
func (s *Subscription) options(v Version) byte {
	options := byte(s.QoS) & optionQoS
	if v != V5 {
		return options
	}
	if s.NoLocal {
		options |= optionNoLocal
	}
	if s.RetainAsPublished {
		options |= optionRetainAsPublished
	}
	return options | s.RetainHandling<<4&optionRetainHandling
}

// Append appends the packet. Filters must be shorter than [MaxFieldLength].
func (s *Subscribe) Append(dst []byte, v Version) []byte {
	var own [5]byte // the Subscription Identifier
	id := Properties(own[:0])
	if s.SubscriptionID != 0 {
		id = AppendUint(id, SubscriptionIdentifier, s.SubscriptionID)
	}
	remaining := 2 + propertiesSize(v, len(id)+len(s.Properties))
	for i := range s.Filters {
		remaining += 2 + len(s.Filters[i].Filter) + 1
	}
	dst = appendHeader(dst, SUBSCRIBE, flagQoS1, remaining)
	dst = append(dst, byte(s.PacketID>>8), byte(s.PacketID))
	if v == V5 {
		dst = appendVarint(dst, len(id)+len(s.Properties))
		dst = append(append(dst, id...), s.Properties...)
	}
	for i := range s.Filters {
		dst = append(appendField(dst, s.Filters[i].Filter), s.Filters[i].options(v))
	}
	return dst
}
