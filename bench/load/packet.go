package load

import (
	"encoding/binary"
	"fmt"
)

// First bytes of the MQTT 3.1.1 packets the generator sends or reads, flags included.
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
	disconnectPacket = 0xe0
)

// The payload of every message begins with a stamp: publisher, run, sequence, time.
const stampBytes = 24

// A stamp identifies one message of one run.
type stamp struct {
	publisher uint32 // index of the publisher
	run       uint32 // tells this run's messages from another's
	sequence  uint64 // from 0, per publisher
	due       int64  // ns on the driver's clock: when it was sent, or, at a fixed rate, when it was due
}

func (s stamp) put(b []byte) {
	_ = b[stampBytes-1]
	binary.LittleEndian.PutUint32(b[0:], s.publisher)
	binary.LittleEndian.PutUint32(b[4:], s.run)
	binary.LittleEndian.PutUint64(b[8:], s.sequence)
	binary.LittleEndian.PutUint64(b[16:], uint64(s.due))
}

func readStamp(b []byte) stamp {
	_ = b[stampBytes-1]
	return stamp{
		publisher: binary.LittleEndian.Uint32(b[0:]),
		run:       binary.LittleEndian.Uint32(b[4:]),
		sequence:  binary.LittleEndian.Uint64(b[8:]),
		due:       int64(binary.LittleEndian.Uint64(b[16:])),
	}
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

// appendConnect asks for a clean session without user name and will.
func appendConnect(dst []byte, clientID string, keepAlive uint16) []byte {
	dst = appendRemainingLength(append(dst, connectPacket), 10+2+len(clientID))
	dst = append(dst, 0, 4, 'M', 'Q', 'T', 'T', 4, 0x02)
	dst = binary.BigEndian.AppendUint16(dst, keepAlive)
	return appendString(dst, clientID)
}

func appendSubscribe(dst []byte, packetID uint16, filter string, qos uint8) []byte {
	dst = appendRemainingLength(append(dst, subscribePacket), 2+2+len(filter)+1)
	dst = binary.BigEndian.AppendUint16(dst, packetID)
	return append(appendString(dst, filter), qos)
}

// appendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP.
func appendAck(dst []byte, first byte, packetID uint16) []byte {
	return append(dst, first, 2, byte(packetID>>8), byte(packetID))
}

func appendDisconnect(dst []byte) []byte { return append(dst, disconnectPacket, 0) }

// A publishFrame is an encoded PUBLISH that is copied per message and then patched.
type publishFrame struct {
	bytes      []byte
	packetIDAt int // 0 at QoS 0
	stampAt    int
}

func newPublishFrame(topicName string, qos uint8, payloadBytes int) publishFrame {
	remaining := 2 + len(topicName) + payloadBytes
	if qos > 0 {
		remaining += 2
	}
	b := appendRemainingLength([]byte{publishPacket | qos<<1}, remaining)
	b = appendString(b, topicName)
	f := publishFrame{}
	if qos > 0 {
		f.packetIDAt = len(b)
		b = append(b, 0, 0)
	}
	f.stampAt = len(b)
	f.bytes = append(b, make([]byte, payloadBytes)...)
	return f
}

// append copies the frame to dst with this packet identifier and stamp.
func (f *publishFrame) append(dst []byte, packetID uint16, s stamp) []byte {
	at := len(dst)
	dst = append(dst, f.bytes...)
	b := dst[at:]
	if f.packetIDAt != 0 {
		binary.BigEndian.PutUint16(b[f.packetIDAt:], packetID)
	}
	s.put(b[f.stampAt:])
	return dst
}

// parsePublish splits the body of a PUBLISH; payload is borrowed from body.
func parsePublish(first byte, body []byte) (qos uint8, packetID uint16, payload []byte, err error) {
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
	return qos, packetID, body[at:], nil
}

// parsePacketID reads the packet identifier that a PUBACK, PUBREC, PUBREL, PUBCOMP or SUBACK begins with.
func parsePacketID(first byte, body []byte) (uint16, error) {
	if len(body) < 2 {
		return 0, errShort(first, body)
	}
	return binary.BigEndian.Uint16(body), nil
}

func errShort(first byte, body []byte) error {
	return fmt.Errorf("load: packet 0x%02x is too short: %d bytes", first, len(body))
}

// splitPacket finds the next packet in b. size 0 and no error: b holds only a part of it.
func splitPacket(b []byte) (body []byte, size int, err error) {
	remaining, shift := 0, 0
	for i := 1; i < len(b); i++ {
		remaining |= int(b[i]&0x7f) << shift
		if b[i] < 0x80 {
			size = i + 1 + remaining
			if len(b) < size {
				return nil, 0, nil
			}
			return b[i+1 : size], size, nil
		}
		if shift += 7; shift > 21 {
			return nil, 0, fmt.Errorf("load: remaining length of packet 0x%02x is longer than four bytes", b[0])
		}
	}
	return nil, 0, nil
}
