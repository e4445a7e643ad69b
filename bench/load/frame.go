package load

import "encoding/binary"

// stampBytes is the length of the stamp that every payload begins with.
const stampBytes = 16

// Widths of a stamp's fields in bits; the due time has a word of its own.
const (
	sequenceBits  = 32
	publisherBits = 18
	runBits       = 64 - sequenceBits - publisherBits
)

// A stamp identifies one message of one run.
type stamp struct {
	run       uint32 // tells this run's messages from another's; runBits
	publisher uint32 // index of the publisher; publisherBits
	sequence  uint32 // from 0, per publisher; the low bits of it, see publisher.sequenceOf
	due       int64  // ns on the driver's clock: when it was sent, or, at a fixed rate, when it was due
}

func (s stamp) put(b []byte) {
	_ = b[stampBytes-1]
	word := uint64(s.run)<<(sequenceBits+publisherBits) | uint64(s.publisher)<<sequenceBits | uint64(s.sequence)
	binary.LittleEndian.PutUint64(b[0:], word)
	binary.LittleEndian.PutUint64(b[8:], uint64(s.due))
}

func readStamp(b []byte) stamp {
	_ = b[stampBytes-1]
	word := binary.LittleEndian.Uint64(b)
	return stamp{
		run:       uint32(word >> (sequenceBits + publisherBits)),
		publisher: uint32(word>>sequenceBits) & (1<<publisherBits - 1),
		sequence:  uint32(word),
		due:       int64(binary.LittleEndian.Uint64(b[8:])),
	}
}

// A publishFrame is an encoded PUBLISH that is copied per message and then patched.
type publishFrame struct {
	bytes      []byte
	packetIDAt int // 0 at QoS 0
	stampAt    int
}

// newPublishFrame makes the frame; retained: with the RETAIN flag.
func newPublishFrame(v Version, topicName string, qos uint8, retained bool, payloadBytes int) publishFrame {
	remaining := 2 + len(topicName) + int(v) + payloadBytes
	first := byte(publishPacket | qos<<1)
	if qos > 0 {
		remaining += 2
	}
	if retained {
		first |= retainFlag
	}
	b := appendRemainingLength([]byte{first}, remaining)
	b = appendString(b, topicName)
	f := publishFrame{}
	if qos > 0 {
		f.packetIDAt = len(b)
		b = append(b, 0, 0)
	}
	if v == V5 {
		b = append(b, 0)
	}
	f.stampAt = len(b)
	f.bytes = append(b, make([]byte, payloadBytes)...)
	return f
}

// append copies the frame to dst with this packet identifier and stamp, which the payload must have room for.
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
