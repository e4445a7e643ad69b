package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/gobwas/ws"
)

// frames takes the frames of WebSocket apart that a broker sends (RFC 6455 section 5).
type frames struct {
	head      [ws.MaxHeaderSize]byte // beginning of a header of which the rest has not come
	headBytes int
	op        ws.OpCode // of the frame under way
	left      uint64    // bytes of its payload to come
	control   []byte    // payload of a control frame so far
}

// Bounds of what a broker sends.
const maxControl = 125 // payload of a control frame

// take returns the payloads in b, moved together in place, and answers pings.
func (f *frames) take(b []byte, pong func([]byte) error) (data []byte, err error) {
	for len(b) > 0 {
		if f.left == 0 {
			n, whole, err := f.header(b)
			if err != nil || !whole {
				return data, err
			}
			b = b[n:]
			if f.left == 0 && f.op.IsControl() {
				if err := f.controlled(pong); err != nil {
					return data, err
				}
			}
			continue
		}
		n := int(min(f.left, uint64(len(b))))
		part := b[:n]
		b = b[n:]
		f.left -= uint64(n)
		switch {
		case f.op.IsControl():
			if f.control = append(f.control, part...); f.left == 0 {
				if err := f.controlled(pong); err != nil {
					return data, err
				}
			}
		case data == nil:
			data = part
		default:
			data = append(data, part...) // over headers that were read: never beyond part
		}
	}
	return data, nil
}

// header reads a header from what came before and b, of which it takes n bytes.
func (f *frames) header(b []byte) (n int, whole bool, err error) {
	had := f.headBytes
	f.headBytes += copy(f.head[had:], b)
	h := f.head[:f.headBytes]
	size := 2
	if len(h) >= size {
		switch h[1] & 0x7f {
		case 126:
			size = 4
		case 127:
			size = 10
		}
	}
	if len(h) < size {
		return 0, false, nil
	}
	f.headBytes = 0
	f.op = ws.OpCode(h[0] & 0x0f)
	switch size {
	case 2:
		f.left = uint64(h[1])
	case 4:
		f.left = uint64(binary.BigEndian.Uint16(h[2:]))
	case 10:
		f.left = binary.BigEndian.Uint64(h[2:])
	}
	switch {
	case h[1]&0x80 != 0:
		err = errors.New("the broker masks a frame")
	case h[0]&0x70 != 0:
		err = errors.New("a frame has reserved bits")
	case f.op.IsControl() && (f.left > maxControl || h[0]&0x80 == 0):
		err = errors.New("a control frame is in parts or too long")
	case !f.op.IsControl() && f.op != ws.OpBinary && f.op != ws.OpContinuation:
		err = fmt.Errorf("a frame with opcode %d", f.op)
	}
	return size - had, true, err
}

// controlled has a whole control frame.
func (f *frames) controlled(pong func([]byte) error) error {
	payload := f.control
	f.control = f.control[:0]
	switch f.op {
	case ws.OpPing:
		return pong(payload)
	case ws.OpClose:
		if len(payload) >= 2 {
			return fmt.Errorf("the broker closes with code %d %q", binary.BigEndian.Uint16(payload), printable(payload[2:]))
		}
		return errors.New("the broker closes")
	}
	return nil
}

// appendFrame appends one frame, masked as a client has to.
func appendFrame(dst []byte, op ws.OpCode, payload []byte) []byte {
	const final, masked = 0x80, 0x80
	n := len(payload)
	switch {
	case n <= maxControl:
		dst = append(dst, final|byte(op), masked|byte(n))
	case n <= math.MaxUint16:
		dst = binary.BigEndian.AppendUint16(append(dst, final|byte(op), masked|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, final|byte(op), masked|127), uint64(n))
	}
	var mask [4]byte
	binary.NativeEndian.PutUint32(mask[:], rand.Uint32())
	dst = append(append(dst, mask[:]...), payload...)
	ws.Cipher(dst[len(dst)-n:], mask, 0)
	return dst
}
