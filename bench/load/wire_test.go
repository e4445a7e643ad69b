package load

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// selfSigned is a certificate for 127.0.0.1, for servers and clients, and who trusts it.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: cert}, pool
}

// webSocketConn is the broker's side of WebSocket as gobwas/ws has it; it pings with everything it writes.
type webSocketConn struct {
	net.Conn
	left []byte
}

func upgrade(c net.Conn) (net.Conn, error) {
	up := ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == "mqtt" }}
	_, err := up.Upgrade(c)
	return &webSocketConn{Conn: c}, err
}

func (c *webSocketConn) Read(p []byte) (int, error) {
	for len(c.left) == 0 {
		b, op, err := wsutil.ReadClientData(c.Conn)
		if err != nil {
			return 0, err
		}
		if op == ws.OpBinary {
			c.left = b
		}
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}

func (c *webSocketConn) Write(p []byte) (int, error) {
	if err := ws.WriteFrame(c.Conn, ws.NewPingFrame([]byte("well?"))); err != nil {
		return 0, err
	}
	half := len(p) / 2
	first := ws.NewFrame(ws.OpBinary, false, p[:half])
	if err := ws.WriteFrame(c.Conn, first); err != nil {
		return 0, err
	}
	return len(p), ws.WriteFrame(c.Conn, ws.NewFrame(ws.OpContinuation, true, p[half:]))
}

// Every workload goes through TLS of both versions, WebSocket, and both.
func TestWire(t *testing.T) {
	cert, pool := selfSigned(t)
	server := &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	client := &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}
	older := client.Clone()
	older.MaxVersion = tls.VersionTLS12
	overTLS := func(c net.Conn) (net.Conn, error) {
		s := tls.Server(c, server)
		return s, s.Handshake()
	}
	overBoth := func(c net.Conn) (net.Conn, error) {
		s, err := overTLS(c)
		if err != nil {
			return nil, err
		}
		return upgrade(s)
	}
	one := func(t *testing.T, b Broker, layer func(net.Conn) (net.Conn, error)) {
		t.Parallel()
		for _, w := range []Workload{
			&Messages{Publishers: 3, Subscribers: 3, QoS: 2, Payload: 64, Window: 8, Duration: 50 * time.Millisecond, Drain: 10 * time.Second},
			&Messages{Publishers: 1, Subscribers: 2, Mapping: FanOut, Payload: 600 << 10, Window: 2, Duration: 50 * time.Millisecond, Drain: 10 * time.Second},
			&Connections{Count: 20, Filters: 2, KeepAlive: 1, Hold: 1100 * time.Millisecond},
			&Retained{Messages: 300, Subscribers: 2, Payload: 30},
			&Replay{Sessions: 5, Queued: 20, Payload: 30},
		} {
			b := b
			b.Address = startFakeBrokerBehind(t, layer, nil).address
			r, err := runTo(t, w, b)
			if err != nil || r.Sent+r.Done == 0 || r.Flawed() {
				t.Errorf("%T: %+v, %v", w, r, err)
			}
		}
		b.Address = startFakeBrokerBehind(t, layer, nil).address
		if r, err := someCycles(t, b); err != nil || r.Flawed() {
			t.Errorf("%+v, %v", r, err)
		}
		if _, err := Probe(t.Context(), b); err != nil {
			t.Error(err)
		}
	}
	f := func(name string, b Broker, layer func(net.Conn) (net.Conn, error)) {
		t.Run(name, func(t *testing.T) { one(t, b, layer) })
	}
	f("TLS 1.3", Broker{TLS: client}, overTLS)
	f("TLS 1.2", Broker{TLS: older}, overTLS)
	f("ws", Broker{WebSocket: "/mqtt"}, upgrade)
	f("wss", Broker{TLS: client, WebSocket: "/mqtt"}, overBoth)
}

// Handshakes that fail are failures of the connection, with their reason.
func TestWireFails(t *testing.T) {
	cert, pool := selfSigned(t)
	overTLS := func(c net.Conn) (net.Conn, error) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
		return s, s.Handshake()
	}
	says := func(text string) func(net.Conn) (net.Conn, error) {
		return func(c net.Conn) (net.Conn, error) {
			if _, err := c.Read(make([]byte, 4096)); err != nil {
				return nil, err
			}
			_, err := c.Write([]byte(text))
			return c, err
		}
	}
	f := func(layer func(net.Conn) (net.Conn, error), config *tls.Config, path, want string) {
		t.Helper()
		b := Broker{Address: startFakeBrokerBehind(t, layer, nil).address, TLS: config, WebSocket: path}
		if _, err := Probe(t.Context(), b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("probe: %v, want %q", err, want)
		}
		r, err := (&Connections{Count: 3, KeepAlive: 60}).Run(t.Context(), b, nil)
		if err != nil || r.Failed != 3 || !strings.Contains(strings.Join(r.Notes, " "), want) {
			t.Errorf("%+v, %v, want %q", r, err, want)
		}
	}
	f(overTLS, &tls.Config{}, "", "unknown authority")
	f(overTLS, &tls.Config{RootCAs: pool, ServerName: "elsewhere"}, "", "match elsewhere")
	f(says("HTTP/1.1 404 Not Found\r\n\r\n"), nil, "/x", "WebSocket at /x: unexpected HTTP response status")
	f(says("no TLS"), &tls.Config{}, "", "TLS: ")
	noProtocol := func(c net.Conn) (net.Conn, error) {
		_, err := ws.Upgrader{}.Upgrade(c)
		return c, err
	}
	f(noProtocol, nil, "/mqtt", "subprotocol mqtt")
}

// Frames come in pieces of any size, and what is wrong with them is said.
func TestFrames(t *testing.T) {
	f := func(in, want, pongs, failure string) {
		t.Helper()
		all, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		for size := 1; size <= len(all); size++ {
			var got, answered []byte
			var failed error
			var fr frames
			for at := 0; at < len(all) && failed == nil; at += size {
				piece := bytes.Clone(all[at:min(at+size, len(all))])
				var data []byte
				data, failed = fr.take(piece, func(p []byte) error { answered = append(answered, p...); return nil })
				got = append(got, data...)
			}
			if hex.EncodeToString(got) != want || string(answered) != pongs {
				t.Errorf("%s in pieces of %d: %x, pongs %q", in, size, got, answered)
			}
			if failure == "" && failed != nil || failure != "" && (failed == nil || !strings.Contains(failed.Error(), failure)) {
				t.Errorf("%s in pieces of %d: %v, want %q", in, size, failed, failure)
			}
		}
	}
	f("8202c000"+"8202d000", "c000d000", "", "")
	f("0202c000"+"890161"+"8000"+"80010a", "c0000a", "a", "")
	f("8a00"+"820101", "01", "", "")
	f("82"+"7e"+"0002"+"c000", "c000", "", "")
	f("827f0000000000000002c000", "c000", "", "")
	f("8282", "", "", "masks")
	f("c202", "", "", "reserved")
	f("8102", "", "", "opcode 1")
	f("0900", "", "", "control")
	f("897e0080", "", "", "control")
	f("880403e86f6b", "", "", `code 1000 "ok"`)
	f("8800", "", "", "closes")
}

func TestAppendFrame(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536} {
		payload := bytes.Repeat([]byte{0xa5}, n)
		in := bytes.NewReader(appendFrame([]byte{}, ws.OpBinary, payload))
		h, err := ws.ReadHeader(in)
		got := make([]byte, in.Len())
		_, _ = in.Read(got)
		ws.Cipher(got, h.Mask, 0)
		if err != nil || !h.Masked || !h.Fin || h.Length != int64(n) || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes: %+v, %v", n, h, err)
		}
	}
}

func TestParseBroker(t *testing.T) {
	f := func(text, address string, secure bool, path string) {
		t.Helper()
		b, err := ParseBroker(text)
		if err != nil || b.Address != address || (b.TLS != nil) != secure || b.WebSocket != path {
			t.Errorf("%s: %+v, %v", text, b, err)
		}
	}
	f("localhost:1883", "localhost:1883", false, "")
	f("mqtt://[::1]", "[::1]:1883", false, "")
	f("tcp://h:1/", "h:1", false, "")
	f("mqtts://h", "h:8883", true, "")
	f("ws://h:8080", "h:8080", false, "/mqtt")
	f("wss://h/", "h:443", true, "/")
	f("wss://h:1/a/b", "h:1", true, "/a/b")
	for _, text := range []string{"http://h", "mqtt://", "mqtt://h/x", "ws://u:p@h", "ws://h?x=1", "ws://h:x"} {
		if _, err := ParseBroker(text); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}
