package client

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
)

// A Property is a User Property.
type Property struct{ Name, Value string }

// A Message is an application message (MQTT 5.0 section 3.3). What a handler
// gets is its own.
type Message struct {
	Topic   string
	Payload []byte
	QoS     codec.QoS
	Retain  bool
	Dup     bool   // of one that arrived
	ID      uint16 // packet identifier of one that arrived; 0 at QoS 0

	// V5
	Text            bool          // the payload is UTF-8 (Payload Format Indicator)
	Expiry          time.Duration // whole seconds; 0: none
	ContentType     string
	ResponseTopic   string
	Correlation     []byte
	Properties      []Property
	SubscriptionIDs []uint32 // of one that arrived

	ack func()
}

// Ack acknowledges a message that arrived, where Options.ManualAck leaves that
// to the handler; it may come later and from any goroutine. A further call, and
// one for QoS 0, does nothing.
func (m *Message) Ack() {
	if m.ack != nil {
		m.ack()
		m.ack = nil
	}
}

// A Will is published by the broker when the connection is lost.
type Will struct {
	Message
	Delay uint32 // seconds, V5
}

func (m *Message) validate() error {
	switch {
	case m.Topic == "":
		return fmt.Errorf("client: a message without a topic name")
	case !validText(m.Topic) || !topic.ValidName(m.Topic) || topic.HasSharePrefix(m.Topic):
		return fmt.Errorf("client: %q is not a topic name", m.Topic)
	case m.QoS > 2:
		return fmt.Errorf("client: QoS %d: want 0, 1 or 2", m.QoS)
	case len(m.Payload) > codec.MaxRemainingLength/2:
		return fmt.Errorf("client: a payload of %d bytes is too large", len(m.Payload))
	case !validText(m.ContentType) || !validText(m.ResponseTopic) || len(m.Correlation) > codec.MaxFieldLength:
		return fmt.Errorf("client: a property of more than %d bytes, or not UTF-8 without NUL", codec.MaxFieldLength)
	case m.Text && !utf8.Valid(m.Payload):
		return fmt.Errorf("client: the payload on %q is not the UTF-8 that Text says", m.Topic)
	case m.ResponseTopic != "" && !topic.ValidName(m.ResponseTopic):
		return fmt.Errorf("client: response topic %q is not a topic name", m.ResponseTopic)
	}
	return validProperties(m.Properties)
}

func validProperties(list []Property) error {
	for _, p := range list {
		if !validText(p.Name) || !validText(p.Value) {
			return fmt.Errorf("client: a property of more than %d bytes, or not UTF-8 without NUL", codec.MaxFieldLength)
		}
	}
	return nil
}

// validText reports whether s may stand in a packet as text [MQTT-1.5.4-1] [MQTT-1.5.4-2].
func validText(s string) bool {
	return len(s) <= codec.MaxFieldLength && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

// appendProperties encodes m's properties, the expiry excepted.
func (m *Message) appendProperties(dst codec.Properties) codec.Properties {
	if m.Text {
		dst = codec.AppendUint(dst, codec.PayloadFormatIndicator, 1)
	}
	if m.ContentType != "" {
		dst = codec.AppendBytes(dst, codec.ContentType, m.ContentType)
	}
	if m.ResponseTopic != "" {
		dst = codec.AppendBytes(dst, codec.ResponseTopic, m.ResponseTopic)
	}
	if len(m.Correlation) > 0 {
		dst = codec.AppendBytes(dst, codec.CorrelationData, m.Correlation)
	}
	return appendUser(dst, m.Properties)
}

func appendUser(dst codec.Properties, list []Property) codec.Properties {
	for _, p := range list {
		dst = codec.AppendUserProperty(dst, p.Name, p.Value)
	}
	return dst
}

// readProperties fills in what p says.
func (m *Message) readProperties(p codec.Properties) {
	for x := range p.All() {
		switch x.ID {
		case codec.PayloadFormatIndicator:
			m.Text = x.Uint == 1
		case codec.ContentType:
			m.ContentType = string(x.Bytes)
		case codec.ResponseTopic:
			m.ResponseTopic = string(x.Bytes)
		case codec.CorrelationData:
			m.Correlation = append([]byte(nil), x.Bytes...)
		case codec.UserProperty:
			m.Properties = append(m.Properties, Property{string(x.Bytes), string(x.Value)})
		case codec.SubscriptionIdentifier:
			m.SubscriptionIDs = append(m.SubscriptionIDs, x.Uint)
		}
	}
}

func userProperties(p codec.Properties) (list []Property) {
	for x := range p.All() {
		if x.ID == codec.UserProperty {
			list = append(list, Property{string(x.Bytes), string(x.Value)})
		}
	}
	return list
}

func reasonString(p codec.Properties) string {
	b, _ := p.Bytes(codec.ReasonString)
	return string(b)
}
