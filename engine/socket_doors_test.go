package engine

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
)

// recordedHello is what a TLS client says first.
func recordedHello(c *tls.Config) []byte {
	mine, theirs := net.Pipe()
	defer mine.Close()
	go func() { _ = tls.Client(theirs, c).Handshake() }()
	b := make([]byte, 16<<10)
	n, _ := mine.Read(b)
	return b[:n]
}

// TestHostileDoors: many clients that do wrong what can be done wrong below
// MQTT, on every kind of listener. Each is refused or waits in vain, others are
// served, and when they are gone nothing of them is left.
func TestHostileDoors(t *testing.T) {
	a := certtest.New(t, "authority")
	client := &tls.Config{RootCAs: a.Pool(), ServerName: "localhost"}
	b := startBroker(t, Options{Loops: 2, ConnectTimeout: time.Second, Listeners: []Listener{
		{Name: "tls", Address: "127.0.0.1:0", Anonymous: true, TLS: serverTLS(a)},
		{Name: "ws", Address: "127.0.0.1:0", Anonymous: true, WebSocket: &WebSocket{}},
		{Name: "wss", Address: "127.0.0.1:0", Anonymous: true, WebSocket: &WebSocket{}, TLS: serverTLS(a)},
		{Name: "proxy", Address: "127.0.0.1:0", Anonymous: true, Proxy: &Proxy{}},
		{Name: "all", Address: "127.0.0.1:0", Anonymous: true, WebSocket: &WebSocket{}, TLS: serverTLS(a), Detect: true},
	}})
	addr := make(map[string]string)
	for _, l := range b.Listeners() {
		addr[l.Name] = l.Addr.String()
	}
	dial := func(door string) net.Conn {
		c, err := net.Dial("tcp", addr[door])
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(socketPatience))
		return c
	}
	var good []*socketClient
	for _, door := range []string{"tls", "wss", "all"} {
		c := net.Conn(tls.Client(dial(door), client))
		if door == "wss" {
			w, err := upgrade(c, "/mqtt", "mqtt")
			if err != nil {
				t.Fatal(err)
			}
			c = w
		}
		s := &socketClient{Conn: c, t: t, v: codec.V5, br: bufio.NewReader(c)}
		if _, err := s.connect("good "+door, true); err != nil {
			t.Fatal(err)
		}
		good = append(good, s)
		defer c.Close()
	}
	settled := func() (uint64, int) { return heapInUse(), runtime.NumGoroutine() }
	hello := recordedHello(client)
	request := "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	garbage := bytes.Repeat([]byte("\xff\x00garbage"), 1000)
	hostile := []func() net.Conn{}
	say := func(door string, what []byte) {
		hostile = append(hostile, func() net.Conn {
			c := dial(door)
			_, _ = c.Write(what)
			return c
		})
	}
	for door := range addr {
		say(door, nil)
		say(door, garbage)
		say(door, hello[:3])
		say(door, hello[:len(hello)/2])
		say(door, hello)
		say(door, []byte("GET /mqtt HT"))
		say(door, []byte(request))
		say(door, []byte(request+strings.Repeat("X: y\r\n", 5000)))
		say(door, []byte("PROXY TCP4 1.2.3.4"))
		say(door, []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x0f\xff"))
	}
	inside := func(door string, what []byte) { // a WebSocket that goes wrong
		hostile = append(hostile, func() net.Conn {
			c := dial(door)
			if w, err := upgrade(c, "/mqtt", "mqtt"); err == nil {
				_, _ = w.Conn.Write(what)
			}
			return c
		})
	}
	inside("ws", garbage)
	inside("ws", []byte{0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4, 0x10})
	inside("ws", bytes.Repeat(wsFrame(0x89, make([]byte, 125)), 1000))
	inside("ws", bytes.Repeat(wsFrame(0x02, nil), 10))
	inside("all", bytes.Repeat(wsFrame(0x00, nil), 10))
	hostile = append(hostile, func() net.Conn { // TLS that goes wrong after its handshake
		c := dial("tls")
		if tls.Client(c, client).Handshake() == nil {
			_, _ = c.Write(garbage)
		}
		return c
	})
	rounds := func(n int) {
		var all []net.Conn
		for range n {
			for _, f := range hostile {
				all = append(all, f())
			}
		}
		for _, s := range good {
			s.ping()
		}
		for i, c := range all {
			if i%2 == 0 {
				c.Close() // the others wait until they are closed
				continue
			}
			if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("a hostile client: %v", err)
			}
			c.Close()
		}
		eventually(t, socketPatience, "only the good ones are there", func() bool { return b.Connections() == len(good) })
	}
	rounds(1) // what is made once is there
	heap, goroutines := settled()
	rounds(3)
	eventually(t, socketPatience, "as few goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines+5 })
	if now, _ := settled(); now > heap+1<<20 {
		t.Errorf("%d bytes were in use before, %d after", heap, now)
	}
	for _, l := range b.Listeners() {
		if l.Failed == 0 {
			t.Errorf("%s: no connection was refused: %+v", l.Name, l)
		}
	}
	for i, s := range good {
		s.ping()
		if err := s.send([]byte("\xe0\x00")); err != nil {
			t.Errorf("good client %d: %v", i, err)
		}
	}
}
