package load

import (
	"encoding/binary"
	"fmt"
)

// First bytes of the packets the generator sends or reads, flags included.
const (
	connectPacket    = 0x10
	connackPacket    = 0x20
	publishPacket    = 0x30
	pubackPacket     = 0x40
	pubrecPacket     = 0x50
	pubrelPacket     = 0x62
	pubcompPacket    = 0x70
	subscribePacket  = 0x82
	subackPacket     = 0x90
	pingreqPacket    = 0xc0
	pingrespPacket   = 0xd0
	disconnectPacket = 0xe0

	retainFlag = 0x01
)

// Version is the version of MQTT that the clients speak.
type Version uint8

// The versions. As a number each is the length of an empty list of properties, which 3.1.1 does not have.
const (
	V311 Version = iota
	V5
)

func (v Version) String() string { return [...]string{"3.1.1", "5"}[v] }

// ParseVersion reads a version as users write it.
func ParseVersion(s string) (Version, error) {
	switch s {
	case "3.1.1", "311", "4":
		return V311, nil
	case "5", "5.0":
		return V5, nil
	}
	return 0, fmt.Errorf("MQTT version %q: want 3.1.1 or 5", s)
}

func appendRemainingLength(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

func appendString(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// A connect is what a CONNECT says. There is no will.
type connect struct {
	version            Version
	clientID           string
	username, password string
	keepAlive          uint16 // seconds
	persistent         bool   // the session is found again, and outlives the connection
}

// sessionSeconds is how long a persistent session is to outlive its connection in version 5.
const sessionSeconds = 3600

func (c connect) append(dst []byte) []byte {
	var flags byte
	if !c.persistent {
		flags |= 0x02
	}
	if c.username != "" {
		flags |= 0xc0
	}
	body := append([]byte(nil), 0, 4, 'M', 'Q', 'T', 'T', 4+byte(c.version), flags)
	body = binary.BigEndian.AppendUint16(body, c.keepAlive)
	switch {
	case c.version == V5 && c.persistent:
		body = binary.BigEndian.AppendUint32(append(body, 5, 0x11), sessionSeconds)
	case c.version == V5:
		body = append(body, 0)
	}
	body = appendString(body, c.clientID)
	if c.username != "" {
		body = appendString(appendString(body, c.username), c.password)
	}
	return append(appendRemainingLength(append(dst, connectPacket), len(body)), body...)
}

func appendSubscribe(dst []byte, v Version, packetID uint16, qos uint8, filters ...string) []byte {
	remaining := 2 + int(v)
	for _, f := range filters {
		remaining += 2 + len(f) + 1
	}
	dst = appendRemainingLength(append(dst, subscribePacket), remaining)
	dst = binary.BigEndian.AppendUint16(dst, packetID)
	if v == V5 {
		dst = append(dst, 0)
	}
	for _, f := range filters {
		dst = append(appendString(dst, f), qos)
	}
	return dst
}

// appendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP; version 5 may leave out reason code 0.
func appendAck(dst []byte, first byte, packetID uint16) []byte {
	return append(dst, first, 2, byte(packetID>>8), byte(packetID))
}

func appendDisconnect(dst []byte) []byte { return append(dst, disconnectPacket, 0) }

func appendPing(dst []byte) []byte { return append(dst, pingreqPacket, 0) }

// parsePublish splits the body of a PUBLISH; payload is borrowed from body.
func parsePublish(v Version, first byte, body []byte) (qos uint8, packetID uint16, payload []byte, err error) {
	if len(body) < 2 {
		return 0, 0, nil, errShort(first, body)
	}
	at := 2 + int(binary.BigEndian.Uint16(body))
	qos = first >> 1 & 3
	if qos > 0 {
		at += 2
	}
	if len(body) < at {
		return 0, 0, nil, errShort(first, body)
	}
	if qos > 0 {
		packetID = binary.BigEndian.Uint16(body[at-2:])
	}
	if payload = body[at:]; v == V5 {
		_, payload, err = splitProperties(first, payload)
	}
	return qos, packetID, payload, err
}

// splitProperties parts the properties that b begins with, without their length, from what follows.
func splitProperties(first byte, b []byte) (properties, rest []byte, err error) {
	n, size := binary.Uvarint(b) // the same encoding, which is bounded by four bytes in MQTT
	if size < 1 || size > 4 || uint64(len(b)-size) < n {
		return nil, nil, errShort(first, b)
	}
	return b[size : size+int(n)], b[size+int(n):], nil
}

// parseAck reads a PUBACK, PUBREC, PUBREL or PUBCOMP.
func parseAck(v Version, first byte, body []byte) (packetID uint16, err error) {
	if len(body) < 2 {
		return 0, errShort(first, body)
	}
	if v == V5 && len(body) > 2 && body[2] >= 0x80 {
		return 0, fmt.Errorf("load: packet 0x%02x says %s", first, reason(body[2]))
	}
	return binary.BigEndian.Uint16(body), nil
}

// parseSuback checks that each of count filters was granted qos.
func parseSuback(v Version, body []byte, qos uint8, count int) (packetID uint16, err error) {
	if len(body) < 2 {
		return 0, errShort(subackPacket, body)
	}
	codes := body[2:]
	if v == V5 {
		if _, codes, err = splitProperties(subackPacket, codes); err != nil {
			return 0, err
		}
	}
	if len(codes) != count {
		return 0, fmt.Errorf("load: SUBACK has %d codes for %d filters", len(codes), count)
	}
	for _, code := range codes {
		if code >= 0x80 {
			return 0, fmt.Errorf("load: SUBACK refuses: %s", reason(code))
		}
		if code != qos {
			return 0, fmt.Errorf("load: SUBACK grants QoS %d, asked was %d", code, qos)
		}
	}
	return binary.BigEndian.Uint16(body), nil
}

func errShort(first byte, body []byte) error {
	return fmt.Errorf("load: packet 0x%02x is too short: %d bytes", first, len(body))
}

// maxPacket bounds the packets that are accepted from the broker.
const maxPacket = 64 << 20

// splitPacket finds the next packet in b. body nil and no error: b holds only a part of it, and
// size is how long it will be, 0 where that is not known yet.
func splitPacket(b []byte) (body []byte, size int, err error) {
	remaining, shift := 0, 0
	for i := 1; i < len(b); i++ {
		remaining |= int(b[i]&0x7f) << shift
		if b[i] < 0x80 {
			size = i + 1 + remaining
			if size > maxPacket {
				return nil, 0, fmt.Errorf("load: packet 0x%02x is %d bytes long, more than %d", b[0], size, maxPacket)
			}
			if len(b) < size {
				return nil, size, nil
			}
			return b[i+1 : size : size], size, nil
		}
		if shift += 7; shift > 21 {
			return nil, 0, fmt.Errorf("load: remaining length of packet 0x%02x is longer than four bytes", b[0])
		}
	}
	return nil, 0, nil
}
