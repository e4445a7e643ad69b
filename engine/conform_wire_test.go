package engine

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

// wire writes bytes down as people read them: hexadecimal, 'text', (…) a field
// behind its two-byte length, {…} the same behind a variable byte integer. So
// a CONNECT is
//
//	10 {('MQTT') 05 02 0000 {} ('client')}
func wire(s string) []byte {
	b, rest := wireUntil(s, 0)
	if rest != "" {
		panic("wire: too many closing brackets in " + s)
	}
	return b
}

// wireUntil reads s up to the closing bracket, 0 for the end.
func wireUntil(s string, end byte) (b []byte, rest string) {
	for len(s) > 0 {
		switch c := s[0]; c {
		case end:
			return b, s[1:]
		case ' ', '\n', '\t':
			s = s[1:]
		case '\'':
			text, after, ok := strings.Cut(s[1:], "'")
			if !ok {
				panic("wire: no closing quote in " + s)
			}
			b, s = append(b, text...), after
		case '(':
			var f []byte
			f, s = wireUntil(s[1:], ')')
			b = append(append(b, byte(len(f)>>8), byte(len(f))), f...)
		case '{':
			var f []byte
			f, s = wireUntil(s[1:], '}')
			n := len(f)
			for ; n >= 0x80; n >>= 7 {
				b = append(b, byte(n)|0x80)
			}
			b = append(append(b, byte(n)), f...)
		default:
			x, err := hex.DecodeString(s[:2])
			if err != nil {
				panic("wire: " + err.Error() + " in " + s)
			}
			b, s = append(b, x...), s[2:]
		}
	}
	if end != 0 {
		panic("wire: a bracket is not closed")
	}
	return b, ""
}

// taken is everything that is there, as text, without the Reason String and
// other properties of CONNACK, and "end" if the broker closed.
func (p *peer) taken() string {
	p.h.t.Helper()
	lines := p.all()
	for i, s := range lines {
		if strings.HasPrefix(s, "CONNACK") {
			lines[i], _, _ = strings.Cut(s, " {")
		}
	}
	if p.closed {
		lines = append(lines, "end")
	}
	return strings.Join(lines, ", ")
}

// first sends s as the first bytes of a connection and compares what comes back.
func (h *harness) first(v codec.Version, s, want string) {
	h.t.Helper()
	p := h.dial(v)
	p.send(wire(s))
	if got := p.taken(); got != want {
		h.t.Errorf("version %v, first bytes %s: got %q, want %q", v, short(s), got, want)
	}
	p.cut()
}

// open sends s on a connection that is open and compares what comes back.
func (h *harness) open(v codec.Version, s, want string) {
	h.t.Helper()
	p := h.client(v, "open")
	p.send(wire(s))
	if got := p.taken(); got != want {
		h.t.Errorf("version %v, %s: got %q, want %q", v, short(s), got, want)
	}
	p.cut()
}

// ends sends s on a connection that is open. It must end: under v5 with that
// code in DISCONNECT, in 3.x without a word.
func (h *harness) ends(v codec.Version, s string, code codec.ReasonCode) {
	h.t.Helper()
	if v == codec.V5 {
		h.open(v, s, fmt.Sprintf("DISCONNECT %02X, end", byte(code)))
		return
	}
	h.open(v, s, "end")
}

// short keeps messages of failures readable.
func short(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// bytes takes the next packet as it is on the wire.
func (p *peer) expectBytes(want string) {
	p.h.t.Helper()
	if got := p.frame(); string(got) != string(wire(want)) {
		p.h.t.Fatalf("got % X, want % X (%s)", got, wire(want), short(want))
	}
}

func TestWire(t *testing.T) {
	f := func(s string, want string) {
		t.Helper()
		if got := fmt.Sprintf("%X", wire(s)); got != want {
			t.Errorf("wire(%q) = %s, want %s", s, got, want)
		}
	}
	f("10 {('MQTT') 05 02 0000 {} ('a')}", "100E00044D5154540502000000000161")
	f("30 {"+strings.Repeat("61", 128)+"}", "308001"+strings.Repeat("61", 128))
}
