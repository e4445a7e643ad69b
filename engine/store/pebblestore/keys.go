package pebblestore

import (
	"encoding/binary"

	"github.com/wheelmq/wheelmq/engine/store"
)

// formatVersion is of the layout of keys and records; package comment. Stores
// of format 1 are read as they are: their deliveries lack the size.
const formatVersion = 2

var (
	keyFormat = []byte("mformat")
	keyEpoch  = []byte("mepoch")
)

// The parts of a session.
const (
	partOwn byte = iota
	partSubscription
	partReceived
	partInFlight
)

const (
	sessionPrefix = 2 + 8     // bytes of a key before the part
	queueKey      = 1 + 8 + 8 // bytes of the key of a queued delivery
)

// hashID spreads sessions, whose identifiers follow each other.
func hashID(id store.SessionID) byte { return byte(uint64(id) * 0x9E3779B97F4A7C15 >> 56) }

func hashTopic(name []byte) byte {
	h := uint32(2166136261) // FNV-1a
	for _, c := range name {
		h = (h ^ uint32(c)) * 16777619
	}
	return byte(h >> 24)
}

func appendSession(b []byte, id store.SessionID) []byte {
	return binary.BigEndian.AppendUint64(append(b, 's', hashID(id)), uint64(id))
}

func appendQueue(b []byte, id store.SessionID) []byte {
	return binary.BigEndian.AppendUint64(append(b, 'q'), uint64(id))
}

func appendQueued(b []byte, id store.SessionID, at store.Position) []byte {
	return binary.BigEndian.AppendUint64(appendQueue(b, id), uint64(at))
}

func appendInFlight(b []byte, id store.SessionID, at store.Position) []byte {
	return binary.BigEndian.AppendUint64(append(appendSession(b, id), partInFlight), uint64(at))
}

func appendReceived(b []byte, id store.SessionID, packet uint16) []byte {
	return binary.BigEndian.AppendUint16(append(appendSession(b, id), partReceived), packet)
}

// ownMark begins the value of a queued delivery that has its message with it;
// other values are records, which begin with their version.
const ownMark = 0xFF

func isOwn(value []byte) bool { return len(value) > 0 && value[0] == ownMark }

// appendOwn puts delivery and message, both encoded, together.
func appendOwn(b, delivery, message []byte) []byte {
	b = binary.AppendUvarint(append(b, ownMark), uint64(len(delivery)))
	return append(append(b, delivery...), message...)
}

// splitOwn is its opposite; message is nil for another value.
func splitOwn(value []byte) (delivery, message []byte, err error) {
	if !isOwn(value) {
		return value, nil, nil
	}
	n, size := binary.Uvarint(value[1:])
	if size <= 0 || n >= uint64(len(value)-1-size) {
		return nil, nil, store.ErrRecord
	}
	at := 1 + size + int(n)
	return value[1+size : at], value[at:], nil
}

func appendMessage(b []byte, id store.MessageID) []byte {
	return binary.BigEndian.AppendUint64(append(b, 'p'), uint64(id))
}

func appendCount(b []byte, id store.MessageID) []byte {
	return binary.BigEndian.AppendUint64(append(b, 'c'), uint64(id))
}

func appendRetained(b, name []byte) []byte { return append(append(b, 'r', hashTopic(name)), name...) }

// after is the first key behind all that begin with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil // no bound
}
