package transport

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/gobwas/ws"
)

// frames takes frames and parts of them. It unmasks in place, and moves the
// payloads of several frames together, so that the peer gets them at once.
func (w *wsLayer) frames(b []byte) {
	var data []byte // within what was read of b
	for len(b) > 0 {
		if w.left == 0 {
			h, size, need := w.header(b)
			if need {
				break
			}
			b = b[size:]
			if !w.begin(h, data) {
				return
			}
			if w.left > 0 {
				continue
			}
		}
		n := int(min(w.left, int64(len(b))))
		payload := b[:n]
		b = b[n:]
		ws.Cipher(payload, w.frame.Mask, w.at)
		w.left -= int64(n)
		w.at = (w.at + n) % 4
		switch {
		case w.frame.OpCode.IsControl():
			w.control = append(w.control, payload...)
			if w.left == 0 && !w.controlled(data) {
				return
			}
		case data == nil:
			data = payload
		default:
			data = append(data, payload...) // over headers that were read: never beyond payload
		}
	}
	w.deliver(data)
	w.pong()
}

// header reads the header of a frame from what came before and b. need is set
// when there is more of it to come.
func (w *wsLayer) header(b []byte) (h ws.Header, size int, need bool) {
	if w.headBytes == 0 {
		if h, size = parseHeader(b); size > 0 {
			return h, size, false
		}
	}
	had := w.headBytes
	w.headBytes += copy(w.head[had:], b)
	h, size = parseHeader(w.head[:w.headBytes])
	if size == 0 {
		return h, 0, true
	}
	w.headBytes = 0
	return h, size - had, false
}

// parseHeader reads a header at the start of b; size is 0 when it is not whole.
// It stands in for ws.ReadHeader, which takes a reader and allocates for each.
func parseHeader(b []byte) (h ws.Header, size int) {
	if len(b) < 2 {
		return h, 0
	}
	h.Fin, h.Rsv, h.OpCode = b[0]&0x80 != 0, b[0]>>4&7, ws.OpCode(b[0]&0x0F)
	h.Masked = b[1]&0x80 != 0
	size = 2
	switch n := b[1] & 0x7F; n {
	case 126:
		size += 2
	case 127:
		size += 8
	default:
		h.Length = int64(n)
	}
	ext := size
	if h.Masked {
		size += 4
	}
	if len(b) < size {
		return h, 0
	}
	switch ext {
	case 4:
		h.Length = shortest(uint64(binary.BigEndian.Uint16(b[2:])), 125)
	case 10:
		h.Length = shortest(binary.BigEndian.Uint64(b[2:]), math.MaxUint16)
	}
	if h.Masked {
		copy(h.Mask[:], b[ext:])
	}
	return h, size
}

// shortest is n, or -1 when a shorter length would have done, or it is none.
func shortest(n, most uint64) int64 {
	if n <= most || n > math.MaxInt64 {
		return -1
	}
	return int64(n)
}

// begin starts a frame, if it may be there; data goes to the peer before an end.
func (w *wsLayer) begin(h ws.Header, data []byte) bool {
	state := ws.StateServerSide
	if w.message {
		state |= ws.StateFragmented
	}
	err := ws.CheckHeader(h, state)
	code := ws.StatusProtocolError
	switch {
	case err != nil:
	case h.Length < 0:
		err = ws.ErrHeaderLengthUnexpected
	case h.OpCode == ws.OpText: // [MQTT-6.0.0-1]
		err, code = fmt.Errorf("text, where binary is wanted"), ws.StatusUnsupportedData
	}
	if err != nil {
		w.deliver(data)
		if !w.s.closed {
			w.closeWith(code)
			w.s.fail("WebSocket: frame refused", err)
		}
		return false
	}
	w.frame, w.left, w.at = h, h.Length, 0
	if !h.OpCode.IsControl() {
		w.message = !h.Fin
		return true
	}
	w.control = w.control[:0]
	return w.left > 0 || w.controlled(data)
}

// controlled handles a control frame that is complete. It reports false when
// the connection has ended.
func (w *wsLayer) controlled(data []byte) bool {
	switch w.frame.OpCode {
	case ws.OpPing:
		w.ping = append(w.ping[:0], w.control...)
		if w.ping == nil {
			w.ping = []byte{}
		}
	case ws.OpClose:
		w.deliver(data)
		if w.s.closed {
			return false
		}
		code := ws.StatusCode(0)
		if len(w.control) >= 2 {
			code = ws.StatusCode(binary.BigEndian.Uint16(w.control))
		}
		if len(w.control) == 1 || !code.Empty() && ws.CheckCloseFrameData(code, string(w.control[2:])) != nil {
			code = ws.StatusProtocolError
		}
		w.closeWith(code)
		w.s.end(io.EOF)
		return false
	}
	w.control = nil
	return true
}

// deliver gives the peer what arrived.
func (w *wsLayer) deliver(data []byte) {
	if len(data) > 0 && !w.s.closed {
		w.s.peer.Received(data)
	}
}

// pong answers the last ping: those before it need no answer (RFC 6455 section
// 5.5.3), nor does a client that does not read.
func (w *wsLayer) pong() {
	if w.ping == nil || w.s.closed {
		return
	}
	if !w.sent && w.s.Buffered() <= pongBytes {
		w.send(ws.OpPong, w.ping)
	}
	w.ping = nil
}

// watch has the client pinged when it is idle.
func (l *eventLoop) watch(w *wsLayer) {
	every := w.s.in.WebSocket.PingInterval
	if every <= 0 {
		return
	}
	w.index = len(l.pinged)
	l.pinged = append(l.pinged, w)
	l.pingRound = min(l.pingRound, max(1, int(every/TickInterval/4)))
}

func (l *eventLoop) unwatch(w *wsLayer) {
	if w.index < 0 {
		return
	}
	last := len(l.pinged) - 1
	l.pinged[w.index] = l.pinged[last]
	l.pinged[w.index].index = w.index
	l.pinged[last] = nil
	l.pinged = l.pinged[:last]
	w.index = -1
}

// longestPingRound is the most ticks in which every client is looked at once.
const longestPingRound = 20

// pingIdle looks, at each tick, at a share of the clients. A timer for each
// would cost an operation a packet.
func (l *eventLoop) pingIdle() {
	l.ticks++
	share := (len(l.pinged) + l.pingRound - 1) / l.pingRound
	for range share {
		if len(l.pinged) == 0 {
			return
		}
		l.pingNext++
		if l.pingNext >= len(l.pinged) {
			l.pingNext = 0
		}
		l.pinged[l.pingNext].pingIfIdle()
	}
}

func (w *wsLayer) pingIfIdle() {
	quiet := w.s.loop.ticks - w.seen
	if w.sent || quiet < uint32(w.s.in.WebSocket.PingInterval/TickInterval) {
		return
	}
	if w.unanswered == pingsAllowed {
		w.s.end(fmt.Errorf("WebSocket: %d pings without an answer", w.unanswered))
		return
	}
	w.unanswered++
	w.seen = w.s.loop.ticks
	w.send(ws.OpPing, nil)
}
