package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/gobwas/ws"
)

// A WebSocket says how connections are upgraded (RFC 6455). Immutable.
type WebSocket struct {
	Path         string        // of the request; "": any
	Protocols    []string      // one of them must be asked for; the client's first choice is taken
	Origins      []string      // that browsers may come from; empty: any
	PingInterval time.Duration // of silence after which an idle client is pinged; 0: never
}

// A wsLayer is the stream between WebSocket frames and the peer's bytes, which
// need not line up. Loop goroutine only.
//
// Memory: an idle one holds this struct and no buffer.
type wsLayer struct {
	s       *layered
	request []byte // what arrived of the request; nil once it is answered
	open    bool   // it is answered
	sent    bool   // our close frame is

	head      [ws.MaxHeaderSize]byte // what arrived of a header
	headBytes int
	frame     ws.Header // whose payload comes
	left      int64     // of the payload
	at        int       // offset in it, for the mask
	message   bool      // a message is not complete: only continuations may follow
	control   []byte    // payload of a control frame that is not complete
	ping      []byte    // payload of the last ping that is not answered; nil when none waits

	index      int    // in loop.pinged; -1 when it is not there
	seen       uint32 // tick of the last bytes either way
	unanswered int    // pings since bytes came
}

const (
	requestBytes   = 8 << 10  // of a request
	copyBytes      = 16 << 10 // up to which header and payload leave as one buffer
	pongBytes      = 64 << 10 // waiting for the client above which its pings are not answered
	pingsAllowed   = 3        // without an answer
	headerComplete = "\r\n\r\n"
)

func newWSLayer(s *layered) *wsLayer {
	return &wsLayer{s: s, index: -1, seen: s.loop.ticks}
}

// received takes bytes of the connection and changes them.
func (w *wsLayer) received(b []byte) {
	w.seen, w.unanswered = w.s.loop.ticks, 0
	if !w.open {
		if b = w.upgrade(b); len(b) == 0 || w.s.closed {
			return
		}
	}
	w.frames(b)
}

// upgrade collects the request, answers it, and returns what comes behind it.
func (w *wsLayer) upgrade(b []byte) []byte {
	had := len(w.request)
	from := max(0, had-len(headerComplete))
	w.request = append(w.request, b[:min(len(b), requestBytes+1-len(w.request))]...)
	end := bytes.Index(w.request[from:], []byte(headerComplete))
	switch {
	case end >= 0:
	case len(w.request) > requestBytes:
		w.refuse("431 Request Header Fields Too Large", errors.New("the request has too many bytes"))
		return nil
	default:
		return nil
	}
	end += from + len(headerComplete)
	rest := b[end-had:]
	answer := exchangeBuffer{request: bytes.NewReader(w.request[:end])}
	hs, err := w.s.in.upgrader.Upgrade(&answer)
	w.request = nil
	if err == nil && hs.Protocol == "" { // not reached: OnBeforeUpgrade refuses
		err = errNoProtocol
	}
	if err != nil {
		if answer.Len() == 0 {
			w.refuse("400 Bad Request", err)
			return nil
		}
		w.s.lower(answer.Bytes())
		w.s.fail("WebSocket: the request is refused", err)
		return nil
	}
	w.open = true
	w.s.lower(answer.Bytes())
	if !w.s.closed {
		w.s.loop.watch(w)
	}
	return rest
}

// refuse answers a request that is none.
func (w *wsLayer) refuse(status string, err error) {
	w.s.lower([]byte("HTTP/1.1 " + status + "\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	w.s.fail("WebSocket: the request is refused", err)
}

// exchangeBuffer gives an upgrader the request and takes the answer.
type exchangeBuffer struct {
	request io.Reader
	bytes.Buffer
}

func (b *exchangeBuffer) Read(p []byte) (int, error) { return b.request.Read(p) }

var errNoProtocol = ws.RejectConnectionError(ws.RejectionStatus(400), ws.RejectionReason("ask for the subprotocol mqtt"))

// newUpgrader answers requests as c says. What it holds is for one loop: the
// protocol that it chose is that of the request under way.
func newUpgrader(c *WebSocket) *upgrader { return &upgrader{c} }

type upgrader struct{ c *WebSocket }

// Upgrade reads a request and writes the answer. Extensions, as
// permessage-deflate, are left out of it: the client goes on without.
func (u *upgrader) Upgrade(rw io.ReadWriter) (ws.Handshake, error) {
	chosen := false
	up := ws.Upgrader{
		ReadBufferSize: requestBytes,
		OnRequest:      u.checkPath,
		OnHeader:       u.checkOrigin,
		Protocol: func(p []byte) bool {
			for _, known := range u.c.Protocols {
				chosen = chosen || known == string(p)
			}
			return chosen
		},
		OnBeforeUpgrade: func() (ws.HandshakeHeader, error) {
			if !chosen {
				return nil, errNoProtocol
			}
			return nil, nil
		},
	}
	return up.Upgrade(rw)
}

func (u *upgrader) checkPath(uri []byte) error {
	path, _, _ := bytes.Cut(uri, []byte("?"))
	if u.c.Path == "" || string(path) == u.c.Path {
		return nil
	}
	return ws.RejectConnectionError(ws.RejectionStatus(404), ws.RejectionReason("there is no WebSocket at this path"))
}

func (u *upgrader) checkOrigin(key, value []byte) error {
	if len(u.c.Origins) == 0 || !bytes.EqualFold(key, []byte("Origin")) {
		return nil
	}
	for _, o := range u.c.Origins {
		if bytes.EqualFold(value, []byte(o)) {
			return nil
		}
	}
	return ws.RejectConnectionError(ws.RejectionStatus(403), ws.RejectionReason("pages of this origin may not connect"))
}

// write sends b as one binary message.
func (w *wsLayer) write(b []byte) {
	if !w.open || w.sent || len(b) == 0 {
		return
	}
	w.seen = w.s.loop.ticks
	w.send(ws.OpBinary, b)
}

// send sends one frame.
func (w *wsLayer) send(op ws.OpCode, payload []byte) {
	head := w.s.loop.scratch.head[:2]
	head[0] = 0x80 | byte(op)
	switch n := len(payload); {
	case n < 126:
		head[1] = byte(n)
	case n <= 0xFFFF:
		head[1] = 126
		head = binary.BigEndian.AppendUint16(head, uint16(n))
	default:
		head[1] = 127
		head = binary.BigEndian.AppendUint64(head, uint64(n))
	}
	if len(payload) > copyBytes {
		w.s.lower2(head, payload)
		return
	}
	frame := append(append(w.s.loop.scratch.frame[:0], head...), payload...)
	w.s.loop.scratch.frame = frame
	w.s.lower(frame)
}

// closeWith sends a close frame, once.
func (w *wsLayer) closeWith(code ws.StatusCode) {
	if !w.open || w.sent {
		return
	}
	var body []byte
	if !code.Empty() {
		body = binary.BigEndian.AppendUint16(nil, uint16(code))
	}
	w.send(ws.OpClose, body)
	w.sent = true
}

func (w *wsLayer) release() {
	w.request, w.control, w.ping = nil, nil, nil
	w.s.loop.unwatch(w)
}
