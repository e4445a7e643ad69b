package codec

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"

	"github.com/wheelmq/wheelmq/codec/topic"
)

// readVarint reads a variable byte integer at the start of b; n is its size. n == 0 without an error
// means that b ends inside it. Longer than four bytes or than need be is malformed [MQTT-1.5.5-1].
func readVarint(b []byte) (value, n int, err error) {
	for i, c := range b {
		if i == 4 {
			break
		}
		value |= int(c&0x7F) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				return 0, 0, errVarint
			}
			return value, i + 1, nil
		}
	}
	if len(b) >= 4 {
		return 0, 0, errVarint
	}
	return 0, 0, nil
}

// varintSize returns the bytes that value takes as a variable byte integer.
func varintSize(value int) int {
	switch {
	case value < 1<<7:
		return 1
	case value < 1<<14:
		return 2
	case value < 1<<21:
		return 3
	default:
		return 4
	}
}

// appendVarint appends value as a variable byte integer; value <= [MaxRemainingLength].
func appendVarint(dst []byte, value int) []byte {
	for value >= 0x80 {
		dst = append(dst, byte(value)|0x80)
		value >>= 7
	}
	return append(dst, byte(value))
}

// appendField appends a string or binary field, its length first. It panics above [MaxFieldLength].
func appendField[S ~string | ~[]byte](dst []byte, field S) []byte {
	if len(field) > MaxFieldLength {
		panic("codec: field is longer than MaxFieldLength")
	}
	return append(append(dst, byte(len(field)>>8), byte(len(field))), field...)
}

// A reader takes fields off the front of borrowed bytes. The first mistake sticks in err, and from
// then on every field is zero or empty: callers check err before they use what they read.
type reader struct {
	b   []byte
	err error
}

// fail notes the first mistake and leaves nothing to read.
func (r *reader) fail(err error) {
	if r.err == nil {
		r.err, r.b = err, nil
	}
}

// take returns the next n bytes, borrowed, with their capacity cut so that nobody appends into what
// follows; nil if there are not as many.
func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.fail(errShort)
		return nil
	}
	field := r.b[:n:n]
	r.b = r.b[n:]
	return field
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// packetID reads a packet identifier, which is never 0 [MQTT-2.2.1-3].
func (r *reader) packetID() uint16 {
	id := r.uint16()
	if id == 0 {
		r.fail(errPacketID)
	}
	return id
}

// binary reads binary data: a length of two bytes, then as many.
func (r *reader) binary() []byte { return r.take(int(r.uint16())) }

// string reads a UTF-8 encoded string.
func (r *reader) string() []byte {
	s := r.binary()
	if err := checkString(s); err != nil {
		r.fail(err)
	}
	return s
}

// end fails if anything is left to read (U5-2.1.4-len).
func (r *reader) end() error {
	if len(r.b) > 0 {
		r.fail(errTrailing)
	}
	return r.err
}

const (
	swarOnes  = 0x0101010101010101
	swarHighs = 0x8080808080808080
	swarPlus  = swarOnes * '+'
	swarHash  = swarOnes * '#'
)

// checkString checks a UTF-8 encoded string: well formed [MQTT-1.5.4-1] and without NUL
// [MQTT-1.5.4-2]. Control characters and non-characters pass (U5-1.5.4-ctl leaves it open).
func checkString(s []byte) error {
	// Fast path: eight ASCII bytes at a time; subtracting one borrows only from a zero byte.
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := binary.LittleEndian.Uint64(s[i:])
		if (w|(w-swarOnes))&swarHighs != 0 {
			return checkStringSlow(s[i:])
		}
	}
	for ; i < len(s); i++ {
		if s[i]-1 >= 0x7F {
			return checkStringSlow(s[i:])
		}
	}
	return nil
}

// checkStringSlow is checkString for text that is not all ASCII. A string whose beginning is ASCII is
// well formed exactly if its rest is.
func checkStringSlow(s []byte) error {
	if !utf8.Valid(s) {
		return errUTF8
	}
	if bytes.IndexByte(s, 0) >= 0 {
		return errNUL
	}
	return nil
}

// checkTopicName checks a Topic Name of at least one byte: a string without wildcards that does not
// begin with "$share/" (B-share-name).
func checkTopicName(s []byte) error {
	if len(s) > 0 && s[0] == '$' && topic.HasSharePrefix(s) {
		return checkTopicNameSlow(s)
	}
	// Fast path: as in checkString, with the two wildcards looked for in the same words.
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := binary.LittleEndian.Uint64(s[i:])
		if (w|(w-swarOnes)|((w^swarPlus)-swarOnes)|((w^swarHash)-swarOnes))&swarHighs != 0 {
			return checkTopicNameSlow(s)
		}
	}
	for ; i < len(s); i++ {
		if s[i]-1 >= 0x7F || s[i] == '+' || s[i] == '#' {
			return checkTopicNameSlow(s)
		}
	}
	return nil
}

// checkTopicNameSlow says what is wrong with s, if anything. Bad text goes before bad topics.
func checkTopicNameSlow(s []byte) error {
	if err := checkString(s); err != nil {
		return err
	}
	if topic.HasSharePrefix(s) || !topic.ValidName(s) {
		return errTopicName
	}
	return nil
}
