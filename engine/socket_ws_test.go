package engine

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
)

// wsConn is the client's end of a WebSocket: each Write is one binary frame,
// or several when size says so, and Read takes the payloads in a row.
type wsConn struct {
	net.Conn
	br   *bufio.Reader
	left []byte // of the last frame
	size int    // of a frame's payload, at most; 0: whole writes
	code uint16 // of the close frame that came
}

// upgrade asks for a WebSocket on c.
func upgrade(c net.Conn, path, protocol string) (*wsConn, error) {
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", path, protocol)
	if err != nil {
		return nil, err
	}
	w := &wsConn{Conn: c, br: bufio.NewReader(c)}
	for first := true; ; first = false {
		line, err := w.br.ReadString('\n')
		switch {
		case err != nil:
			return nil, err
		case first && !strings.HasPrefix(line, "HTTP/1.1 101 "):
			return nil, errors.New(strings.TrimSpace(line))
		case strings.HasPrefix(line, "Sec-WebSocket-Protocol: ") && !strings.Contains(protocol, strings.TrimSpace(line[24:])):
			return nil, errors.New("another protocol: " + line)
		case line == "\r\n":
			return w, nil
		}
	}
}

// wsFrame is a client's frame.
func wsFrame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xFFFF:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i, x := range payload {
		b = append(b, x^mask[i%4])
	}
	return b
}

func (w *wsConn) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := len(rest)
		if w.size > 0 {
			n = min(n, w.size)
		}
		if _, err := w.Conn.Write(wsFrame(0x82, rest[:n])); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(b), nil
}

func (w *wsConn) Read(p []byte) (int, error) {
	for len(w.left) == 0 {
		var head [2]byte
		if _, err := io.ReadFull(w.br, head[:]); err != nil {
			return 0, err
		}
		n := uint64(head[1])
		if n >= 126 {
			ext := make([]byte, 8)
			if _, err := io.ReadFull(w.br, ext[:2+6*(n-126)]); err != nil {
				return 0, err
			}
			if n == 126 {
				n = uint64(binary.BigEndian.Uint16(ext))
			} else {
				n = binary.BigEndian.Uint64(ext)
			}
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(w.br, payload); err != nil {
			return 0, err
		}
		switch head[0] {
		case 0x82:
			w.left = payload
		case 0x88:
			w.code = binary.BigEndian.Uint16(append(payload, 0, 0))
			return 0, io.EOF
		}
	}
	n := copy(p, w.left)
	w.left = w.left[n:]
	return n, nil
}

// dialWS opens a WebSocket to the broker's first listener.
func dialWS(t testing.TB, b *Broker, c *tls.Config, v codec.Version, path, protocol string) (*socketClient, *wsConn, error) {
	t.Helper()
	s := dialSocket(t, b, v)
	if c != nil {
		s.Conn = tls.Client(s.Conn, c)
	}
	w, err := upgrade(s.Conn, path, protocol)
	if err != nil {
		return nil, nil, err
	}
	s.Conn, s.br = w, bufio.NewReader(w)
	return s, w, nil
}

func mustDialWS(t testing.TB, b *Broker, c *tls.Config, v codec.Version) (*socketClient, *wsConn) {
	t.Helper()
	s, w, err := dialWS(t, b, c, v, "/mqtt", "mqtt")
	if err != nil {
		t.Fatal(err)
	}
	return s, w
}

// TestOverWebSocket (MQTT 5.0 section 6).
func TestOverWebSocket(t *testing.T) {
	t.Parallel()
	a := certtest.New(t, "authority")
	client := &tls.Config{RootCAs: a.Pool(), ServerName: "localhost"}
	for _, secure := range []bool{false, true} {
		l := Listener{Address: "127.0.0.1:0", Anonymous: true, WebSocket: &WebSocket{}}
		var cfg *tls.Config
		if secure {
			l.TLS, cfg = serverTLS(a), client
		}
		b := startBroker(t, Options{Listeners: []Listener{l}})

		covers(t, "MQTT-6.0.0-4", "M31-ws")
		for protocol, v := range map[string]codec.Version{"mqtt": codec.V5, "other, mqtt": codec.V311, "mqttv3.1": codec.V31} {
			c, _, err := dialWS(t, b, cfg, v, "/mqtt", protocol)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.connect("a", true); err != nil {
				t.Errorf("%s: %v", protocol, err)
			}
		}
		if _, _, err := dialWS(t, b, cfg, codec.V5, "/mqtt", "amqp"); err == nil || !strings.Contains(err.Error(), "400") {
			t.Errorf("another protocol: %v", err)
		}

		covers(t, "MQTT-6.0.0-2")
		c, w := mustDialWS(t, b, cfg, codec.V5)
		w.size = 1 // parts of packets
		if _, err := c.connect("b", true); err != nil {
			t.Fatal(err)
		}
		w.size = 0
		if err := c.send([]byte("\xc0\x00\xc0\x00\xc0")); err != nil { // two packets and a half
			t.Fatal(err)
		}
		if err := c.send([]byte("\x00")); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if h, _, err := c.frame(); err != nil || h.Type != codec.PINGRESP {
				t.Errorf("got %v, %v", h.Type, err)
			}
		}

		covers(t, "U5-6-uri")
		if _, _, err := dialWS(t, b, cfg, codec.V5, "/mqtt?clientid=x", "mqtt"); err != nil {
			t.Errorf("a query: %v", err)
		}
		_, _ = w.Conn.Write(wsFrame(0x89, []byte("ping"))) // a ping,
		_, _ = w.Conn.Write(wsFrame(0x02, []byte("\xc0"))) // a packet in two frames of one message
		_, _ = w.Conn.Write(wsFrame(0x80, []byte("\x00"))) // with a continuation
		if h, _, err := c.frame(); err != nil || h.Type != codec.PINGRESP {
			t.Errorf("after a ping and a continuation: %v, %v", h.Type, err)
		}

		covers(t, "MQTT-6.0.0-1")
		_, _ = w.Conn.Write(wsFrame(0x81, []byte("\xc0\x00")))
		if _, _, err := c.frame(); err == nil || w.code != 1003 {
			t.Errorf("after a frame of text: %v, code %d, want 1003", err, w.code)
		}
	}
}

// TestLargeOverWebSocket: messages of 1 MB in both directions at every QoS.
func TestLargeOverWebSocket(t *testing.T) {
	t.Parallel()
	b := startBroker(t, Options{Listeners: []Listener{{Address: "127.0.0.1:0", Anonymous: true, WebSocket: &WebSocket{}}}})
	payload := bytes.Repeat([]byte("0123456789"), 100_000)
	for qos := range codec.QoS(3) {
		for _, size := range []int{0, 1 << 10, 100_000} {
			c, w := mustDialWS(t, b, nil, codec.V5)
			id := fmt.Sprintf("q%d s%d", qos, size)
			if _, err := c.connect(id, true); err != nil {
				t.Fatal(err)
			}
			c.subscribe(codec.Subscription{Filter: []byte(id), QoS: qos})
			w.size = size
			sent := make(chan error, 1)
			go func() { sent <- c.send(publishPacket(codec.V5, id, string(payload), qos, 7)) }()
			got := false
			for !got {
				h, body, err := c.frame()
				if err != nil {
					t.Fatalf("%s: %v", id, err)
				}
				if h.Type == codec.PUBLISH {
					var in codec.Publish
					err := codec.ParsePublish(&in, h.Flags, body, codec.V5, codec.FromServer)
					if got = true; err != nil || in.QoS != qos || !bytes.Equal(in.Payload, payload) {
						t.Errorf("%s: got QoS %d and %d bytes, %v", id, in.QoS, len(in.Payload), err)
					}
				} else if h.Type == codec.PUBREC {
					if err := <-sent; err != nil {
						t.Fatal(err)
					}
					_ = c.send([]byte("\x62\x02\x00\x07"))
				}
			}
		}
	}
}

// TestStopClosesWebSockets: with a DISCONNECT and a close frame.
func TestStopClosesWebSockets(t *testing.T) {
	t.Parallel()
	b := startBroker(t, Options{Listeners: []Listener{{Address: "127.0.0.1:0", Anonymous: true, WebSocket: &WebSocket{}}}})
	c, w := mustDialWS(t, b, nil, codec.V5)
	if _, err := c.connect("a", true); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if h, body, err := c.frame(); err != nil || h.Type != codec.DISCONNECT || body[0] != byte(codec.ServerShuttingDown) {
			t.Errorf("got %v %x, %v", h.Type, body, err)
		}
		if _, _, err := c.frame(); err == nil || w.code != 1000 {
			t.Errorf("then %v, code %d", err, w.code)
		}
		w.Conn.Close()
	}()
	stopBroker(t, b)
	<-ended
}

// TestBehindProxy: hooks see the client, not the proxy.
func TestBehindProxy(t *testing.T) {
	t.Parallel()
	w := &watcher{}
	b := startBroker(t, Options{Hooks: []any{w}, Listeners: []Listener{{Address: "127.0.0.1:0", Anonymous: true, Proxy: &Proxy{}}}})
	c := dialSocket(t, b, codec.V5)
	if err := c.send([]byte("PROXY TCP4 192.0.2.7 192.0.2.1 4711 1883\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.connect("a", true); err != nil {
		t.Fatal(err)
	}
	if got := w.last(); got.RemoteAddr.String() != "192.0.2.7:4711" || got.LocalAddr.String() != "192.0.2.1:1883" || got.Proxied == nil {
		t.Errorf("the hook was told %+v", got)
	}
	a := certtest.New(t, "authority")
	all := startBroker(t, Options{Hooks: []any{w}, Listeners: []Listener{
		{Address: "127.0.0.1:0", Anonymous: true, Proxy: &Proxy{}, TLS: serverTLS(a), WebSocket: &WebSocket{}}}})
	c = dialSocket(t, all, codec.V5)
	if err := c.send([]byte("PROXY TCP6 2001:db8::7 2001:db8::1 4711 1883\r\n")); err != nil {
		t.Fatal(err)
	}
	inner, err := upgrade(tls.Client(c.Conn, &tls.Config{RootCAs: a.Pool(), ServerName: "localhost"}), "/mqtt", "mqtt")
	if err != nil {
		t.Fatal(err)
	}
	c.Conn, c.br = inner, bufio.NewReader(inner)
	if _, err := c.connect("c", true); err != nil {
		t.Fatal(err)
	}
	if got := w.last(); got.RemoteAddr.String() != "[2001:db8::7]:4711" || got.TLS == nil {
		t.Errorf("through all layers the hook was told %+v", got)
	}
	began := time.Now()
	c = dialSocket(t, b, codec.V5)
	if _, err := c.connect("b", true); err == nil {
		t.Errorf("let in without a header")
	}
	if took := time.Since(began); took > socketPatience/2 {
		t.Errorf("the refusal took %v", took)
	}
}
