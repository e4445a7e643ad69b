package codec

import (
	"encoding/binary"
	"slices"
)

// A Publish is a received PUBLISH packet. Topic, Payload and Properties are borrowed from the body
// given to [ParsePublish]; whoever keeps them copies them.
type Publish struct {
	Topic   []byte // empty only in 5.0, together with a TopicAlias
	Payload []byte
	// Properties are what is forwarded unaltered with the message: all but the Topic Alias and the
	// Message Expiry Interval. From a server they include its Subscription Identifiers.
	Properties       Properties
	MessageExpiry    uint32 // seconds; meaningful only with HasMessageExpiry
	HasMessageExpiry bool
	TopicAlias       uint16 // 0: none
	PacketID         uint16 // 0 exactly if QoS is 0
	QoS              QoS
	Dup              bool
	Retain           bool

	// Checked is set by the caller and kept by ParsePublish: a topic name that it checked before, which
	// need not be checked again. IsChecked reports that Topic is that one. Publishers repeat themselves.
	Checked   []byte
	IsChecked bool
}

// ParsePublish parses a PUBLISH with the flags of its fixed header, which it checks too. It allocates
// nothing.
//
// It changes body: Topic Alias and Message Expiry Interval are taken out of the properties and what
// follows them there moves down. A body is therefore parsed once.
func ParsePublish(p *Publish, flags uint8, body []byte, v Version, from Side) error {
	*p = Publish{QoS: QoS(flags & flagQoSMask >> 1), Dup: flags&flagDup != 0, Retain: flags&flagRetain != 0,
		Checked: p.Checked}
	if err := checkPublishFlags(flags, v); err != nil {
		return err
	}
	r := reader{b: body}
	p.Topic = r.binary()
	if p.QoS > 0 {
		p.PacketID = r.packetID()
	}
	if r.err != nil {
		return r.err
	}
	if p.IsChecked = len(p.Checked) > 0 && string(p.Topic) == string(p.Checked); !p.IsChecked {
		if err := checkTopicName(p.Topic); err != nil { // [MQTT-3.3.2-1] [MQTT-3.3.2-2]
			return err
		}
	}
	if v == V5 {
		if err := p.parseProperties(&r, from); err != nil {
			return err
		}
	}
	if len(p.Topic) == 0 && p.TopicAlias == 0 { // [MQTT-4.7.3-1]
		if v == V5 {
			return errEmptyTopic
		}
		return errEmptyTopicLegacy
	}
	p.Payload = r.b
	return nil
}

// parseProperties reads the properties and lifts out those that are not forwarded as they are.
func (p *Publish) parseProperties(r *reader, from Side) error {
	in := inPublishClient
	if from == FromServer {
		in = inPublishServer
	}
	var seen propertySet
	p.Properties, seen = r.properties(V5, in)
	if r.err != nil {
		return r.err
	}
	if seen.has(TopicAlias) {
		p.TopicAlias = uint16(p.Properties.lift(TopicAlias))
	}
	if seen.has(MessageExpiryInterval) {
		p.MessageExpiry, p.HasMessageExpiry = p.Properties.lift(MessageExpiryInterval), true
	}
	return nil
}

// A Delivery is what differs between the PUBLISH packets that carry one message: to whom it goes, at
// which QoS, and what of it depends on the moment.
type Delivery struct {
	PacketID         uint16 // not 0 exactly if QoS is not 0
	QoS              QoS
	Dup              bool
	Retain           bool
	TopicAlias       uint16 // 0: none; 5.0 only, as all that follows
	OmitTopic        bool   // send the alias in place of the Topic Name
	MessageExpiry    uint32 // seconds left
	HasMessageExpiry bool
	SubscriptionIDs  []uint32 // each 1 to [MaxRemainingLength]; borrowed
}

// lengths returns the Remaining Length of the packet and, for 5.0, its Property Length.
func (d *Delivery) lengths(v Version, topicLen, payloadLen, propsLen int) (remaining, properties int) {
	remaining = 2 + topicLen + payloadLen
	if d.QoS > 0 {
		remaining += 2
	}
	if v != V5 {
		return remaining, 0
	}
	if d.OmitTopic {
		remaining -= topicLen
	}
	properties = propsLen
	if d.TopicAlias != 0 {
		properties += 3
	}
	if d.HasMessageExpiry {
		properties += 5
	}
	for _, id := range d.SubscriptionIDs {
		properties += 1 + varintSize(int(id))
	}
	return remaining + varintSize(properties) + properties, properties
}

// PublishSize returns the bytes of the whole packet that [AppendPublish] makes of such a message.
func PublishSize(v Version, d *Delivery, topicLen, payloadLen, propsLen int) int {
	remaining, _ := d.lengths(v, topicLen, payloadLen, propsLen)
	return 1 + varintSize(remaining) + remaining
}

// AppendPublish appends a PUBLISH. props are as in [Publish].Properties and are left out in 3.x. It
// allocates nothing if dst has room for [PublishSize] bytes, else it grows dst once.
//
// It panics if the topic is longer than [MaxFieldLength] or the packet than [MaxRemainingLength]: the
// caller bounds both, the latter well below since a delivery adds properties to what came in.
func AppendPublish(dst []byte, v Version, d *Delivery, topic, payload []byte, props Properties) []byte {
	remaining, properties := d.lengths(v, len(topic), len(payload), len(props))
	if len(topic) > MaxFieldLength || remaining > MaxRemainingLength {
		panic("codec: AppendPublish: topic or packet is too long")
	}
	if v == V5 && d.OmitTopic {
		topic = nil
	}
	dst = slices.Grow(dst, 1+varintSize(remaining)+remaining)
	dst = appendVarint(append(dst, byte(PUBLISH)<<4|d.flags()), remaining)
	dst = append(append(dst, byte(len(topic)>>8), byte(len(topic))), topic...)
	if d.QoS > 0 {
		dst = append(dst, byte(d.PacketID>>8), byte(d.PacketID))
	}
	if v == V5 {
		dst = appendVarint(dst, properties)
		if properties > len(props) {
			dst = d.appendProperties(dst)
		}
		dst = append(dst, props...)
	}
	return append(dst, payload...)
}

// flags returns the flags of the fixed header.
func (d *Delivery) flags() byte {
	flags := byte(d.QoS) << 1 & flagQoSMask
	if d.Retain {
		flags |= flagRetain
	}
	if d.Dup {
		flags |= flagDup
	}
	return flags
}

// appendProperties appends the properties of this delivery.
func (d *Delivery) appendProperties(dst []byte) []byte {
	if d.TopicAlias != 0 {
		dst = append(dst, byte(TopicAlias), byte(d.TopicAlias>>8), byte(d.TopicAlias))
	}
	if d.HasMessageExpiry {
		dst = binary.BigEndian.AppendUint32(append(dst, byte(MessageExpiryInterval)), d.MessageExpiry)
	}
	for _, id := range d.SubscriptionIDs {
		dst = appendVarint(append(dst, byte(SubscriptionIdentifier)), int(id))
	}
	return dst
}
