package load

import (
	"encoding/binary"
	"fmt"
)

// A connack is what the broker said to a CONNECT.
type connack struct {
	sessionPresent bool
	receiveMaximum uint16 // QoS 1 and 2 it takes at once; 65,535 where it does not say
}

// propertySizes is the fixed length of a property's value; what is not here is a string or a pair.
var propertySizes = map[byte]int{0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2a: 1}

// Properties that are treated apart.
const (
	receiveMaximumProperty = 0x21
	userProperty           = 0x26 // a pair of strings
)

func parseConnack(v Version, body []byte) (connack, error) {
	c := connack{receiveMaximum: 65535}
	if len(body) < 2 || v == V311 && len(body) != 2 {
		return c, fmt.Errorf("load: CONNACK of %d bytes", len(body))
	}
	if body[1] != 0 {
		return c, fmt.Errorf("load: CONNACK refuses: %s", refusal(v, body[1]))
	}
	c.sessionPresent = body[0]&1 != 0
	if v == V311 {
		return c, nil
	}
	properties, _, err := splitProperties(connackPacket, body[2:])
	if err != nil {
		return c, err
	}
	for len(properties) > 0 {
		id, value := properties[0], properties[1:]
		n, err := valueSize(id, value)
		if err != nil {
			return c, err
		}
		if id == receiveMaximumProperty {
			c.receiveMaximum = binary.BigEndian.Uint16(value)
		}
		properties = value[n:]
	}
	return c, nil
}

// valueSize is how long the value of this property is, which b begins with.
func valueSize(id byte, b []byte) (int, error) {
	n, fixed := propertySizes[id]
	for part := 0; !fixed && (part == 0 || part == 1 && id == userProperty); part++ {
		if len(b) < n+2 {
			return 0, errShort(connackPacket, b)
		}
		n += 2 + int(binary.BigEndian.Uint16(b[n:]))
	}
	if len(b) < n {
		return 0, errShort(connackPacket, b)
	}
	return n, nil
}

// refusal is the text of a CONNACK's code that is not 0.
func refusal(v Version, code byte) string {
	if v == V5 {
		return reason(code)
	}
	if texts := []string{"", "protocol version", "client identifier", "server unavailable", "user name or password", "not authorized"}; int(code) < len(texts) {
		return fmt.Sprintf("code %d, %s", code, texts[code])
	}
	return fmt.Sprintf("code %d", code)
}

// reasons are the reason codes of version 5 that a load generator may meet.
var reasons = map[byte]string{
	0x80: "unspecified error", 0x81: "malformed packet", 0x82: "protocol error", 0x83: "implementation specific error",
	0x85: "client identifier not valid", 0x86: "bad user name or password", 0x87: "not authorized", 0x88: "server unavailable",
	0x89: "server busy", 0x8b: "server shutting down", 0x8d: "keep alive timeout", 0x8e: "session taken over", 0x8f: "topic filter invalid",
	0x90: "topic name invalid", 0x93: "receive maximum exceeded", 0x95: "packet too large", 0x96: "message rate too high",
	0x97: "quota exceeded", 0x98: "administrative action", 0x9a: "retain not supported", 0x9b: "QoS not supported",
	0x9e: "shared subscriptions not supported", 0xa1: "subscription identifiers not supported", 0xa2: "wildcard subscriptions not supported",
}

func reason(code byte) string {
	if text := reasons[code]; text != "" {
		return fmt.Sprintf("0x%02x, %s", code, text)
	}
	return fmt.Sprintf("0x%02x", code)
}
