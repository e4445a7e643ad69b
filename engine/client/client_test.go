package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/client"
	"github.com/wheelmq/wheelmq/engine/enginetest"
	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
)

var versions = []codec.Version{client.V31, client.V311, client.V5}

func broker(t *testing.T) *enginetest.Broker {
	t.Helper()
	return enginetest.Start(t, engine.Options{Loops: 2})
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), enginetest.Patience)
	t.Cleanup(cancel)
	return ctx
}

func connect(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	return c
}

func to(b *enginetest.Broker) []string { return []string{"mqtt://" + b.Address()} }

// collector collects messages.
type collector struct {
	mu  sync.Mutex
	got []client.Message
}

func (c *collector) add(m *client.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, *m)
}

func (c *collector) await(t *testing.T, n int) []client.Message {
	t.Helper()
	for end := time.Now().Add(enginetest.Patience); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		got := append([]client.Message(nil), c.got...)
		c.mu.Unlock()
		if len(got) >= n {
			return got
		}
		if time.Now().After(end) {
			t.Fatalf("%d messages, want %d", len(got), n)
		}
	}
}

// TestMessages: each version, each QoS, in order, with all that a message has.
func TestMessages(t *testing.T) {
	b := broker(t)
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			topic := "t" + v.String()
			var got collector
			sub := connect(t, client.Options{Servers: to(b), Version: v})
			if codes, err := sub.Subscribe(within(t), client.Subscription{Filter: topic + "/#", QoS: 2, Handler: got.add}); err != nil || codes[0] != 2 {
				t.Fatal(codes, err)
			}
			pub := connect(t, client.Options{Servers: to(b), Version: v})
			for i := range 60 {
				m := client.Message{Topic: fmt.Sprint(topic, "/", i%3), Payload: fmt.Append(nil, i), QoS: codec.QoS(i % 3)}
				if v == client.V5 {
					m.ContentType, m.Text, m.Properties, m.Expiry = "text/plain", true, []client.Property{{Name: "a", Value: "b"}}, time.Hour
				}
				if r, err := pub.Publish(within(t), m); err != nil || r.Code.Failure() {
					t.Fatal(r, err)
				}
			}
			all := got.await(t, 60)
			last := map[string]int{}
			for _, m := range all {
				var n int
				if _, err := fmt.Sscan(string(m.Payload), &n); err != nil || m.QoS != codec.QoS(n%3) || n <= last[m.Topic] && last[m.Topic] > 0 {
					t.Errorf("%+v", m)
				}
				last[m.Topic] = n
				if v == client.V5 && (m.ContentType != "text/plain" || !m.Text || len(m.Properties) != 1 || m.Expiry <= 59*time.Minute) {
					t.Errorf("%+v", m)
				}
			}
			if _, err := sub.Unsubscribe(within(t), topic+"/#"); err != nil || len(sub.Subscriptions()) != 0 {
				t.Error(err)
			}
			if err := pub.Disconnect(within(t)); err != nil {
				t.Error(err)
			}
			if _, err := pub.Publish(within(t), client.Message{Topic: "x"}); !errors.Is(err, client.ErrClosed) {
				t.Errorf("after Disconnect: %v", err)
			}
		})
	}
}

// TestMany: many goroutines publish, nothing is lost and each keeps its order.
func TestMany(t *testing.T) {
	b := broker(t)
	var got collector
	sub := connect(t, client.Options{Servers: to(b), ReceiveMaximum: 1000})
	if _, err := sub.Subscribe(within(t), client.Subscription{Filter: "m/+", QoS: 1, Handler: got.add}); err != nil {
		t.Fatal(err)
	}
	pub := connect(t, client.Options{Servers: to(b)})
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			for j := range 200 {
				if _, err := pub.Publish(within(t), client.Message{Topic: fmt.Sprint("m/", i), Payload: fmt.Append(nil, j), QoS: 1}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	next := map[string]int{}
	for _, m := range got.await(t, 1600) {
		if string(m.Payload) != fmt.Sprint(next[m.Topic]) {
			t.Fatalf("%s: %s, want %d", m.Topic, m.Payload, next[m.Topic])
		}
		next[m.Topic]++
	}
}

// TestReconnect: the connection is cut again and again while messages flow;
// none is lost, none doubled at QoS 2, and subscriptions stay, with the session
// and without it.
func TestReconnect(t *testing.T) {
	for _, v := range versions {
		for _, keep := range []bool{true, false} {
			if v != client.V5 && !keep {
				continue // 3.x has no clean start with a session behind it
			}
			t.Run(fmt.Sprintf("%v, session %v", v, keep), func(t *testing.T) {
				t.Parallel()
				b := broker(t)
				p := newProxy(t, b.Address())
				expiry := uint32(1000)
				if !keep {
					expiry = 0
				}
				var got collector
				o := client.Options{Servers: []string{"mqtt://" + p.address()}, Version: v, ClientID: "c", SessionExpiry: expiry, MinPause: time.Millisecond, MaxPause: 5 * time.Millisecond}
				c := connect(t, o)
				if _, err := c.Subscribe(within(t), client.Subscription{Filter: "t", QoS: 2, Handler: got.add}); err != nil {
					t.Fatal(err)
				}
				const n = 100
				var tokens []*client.Token
				for i := range n {
					token, err := c.PublishAsync(client.Message{Topic: "t", Payload: fmt.Append(nil, i), QoS: 2})
					if err != nil {
						t.Fatal(err)
					}
					if tokens = append(tokens, token); i%10 == 9 {
						p.cut()
					}
				}
				for _, token := range tokens {
					if _, err := token.Wait(within(t)); err != nil {
						t.Fatal(err)
					}
				}
				if !keep { // what was delivered while no subscription was there is gone
					return
				}
				seen := map[string]int{}
				for range 2 {
					for _, m := range got.await(t, n) {
						seen[string(m.Payload)]++
					}
				}
				for i := range n {
					if seen[fmt.Sprint(i)] != 2 {
						t.Errorf("%d came %d times", i, seen[fmt.Sprint(i)]/2)
					}
				}
			})
		}
	}
}

// TestStore: a program that ends between PUBLISH and PUBACK goes on with the
// same packet identifier, and nothing is doubled at QoS 2.
func TestStore(t *testing.T) {
	b := broker(t)
	sub := b.Connect(t, "sub", codec.V311)
	sub.Subscribe("t", 2)
	p := newProxy(t, b.Address())
	path := filepath.Join(t.TempDir(), "store")
	open := func() *client.Client {
		t.Helper()
		s, err := client.OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.New(client.Options{Servers: []string{"mqtt://" + p.address()}, ClientID: "c", SessionExpiry: 1000, Store: s, MinPause: time.Millisecond, MaxPause: 5 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	c := open()
	if err := c.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	p.deaf(true) // the broker gets everything, its answers do not come
	for i, qos := range []codec.QoS{1, 2} {
		if _, err := c.PublishAsync(client.Message{Topic: "t", Payload: fmt.Append(nil, i), QoS: qos}); err != nil {
			t.Fatal(err)
		}
	}
	first := sub.ExpectPublish("t", "0")
	sub.Ack(codec.PUBACK, first.PacketID)
	second := sub.ExpectPublish("t", "1")
	sub.Ack(codec.PUBREC, second.PacketID)
	sub.ExpectAck(codec.PUBREL, second.PacketID)
	sub.Ack(codec.PUBCOMP, second.PacketID)
	c.Close()
	p.deaf(false)
	p.cut()
	c = open()
	restored := c.Restored()
	if len(restored) != 2 {
		t.Fatalf("%d messages are restored, want 2", len(restored))
	}
	if _, err := c.PublishAsync(client.Message{Topic: "t", Payload: []byte("2"), QoS: 1}); err != nil { // kept too, before there is a connection
		t.Fatal(err)
	}
	c.Close()
	c = open()
	restored = c.Restored()
	if len(restored) != 3 {
		t.Fatalf("%d messages are restored, want 3", len(restored))
	}
	if err := c.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	for _, token := range restored {
		if _, err := token.Wait(within(t)); err != nil {
			t.Error(err)
		}
	}
	again := sub.ExpectPublish("t", "0") // QoS 1 may come twice
	sub.Ack(codec.PUBACK, again.PacketID)
	sub.ExpectPublish("t", "2")
	if err := c.Disconnect(within(t)); err != nil {
		t.Error(err)
	}
	s, err := client.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Load(func(x client.Change) error { return fmt.Errorf("%+v is left", x) }); err != nil {
		t.Error(err)
	}
}

// TestQueue: what is published without a connection waits, up to the bound.
func TestQueue(t *testing.T) {
	b := broker(t)
	var got collector
	sub := connect(t, client.Options{Servers: to(b)})
	if _, err := sub.Subscribe(within(t), client.Subscription{Filter: "q", QoS: 1, Handler: got.add}); err != nil {
		t.Fatal(err)
	}
	f := func(o client.Overflow, want string, refused int) {
		t.Helper()
		got.mu.Lock()
		got.got = nil
		got.mu.Unlock()
		c, err := client.New(client.Options{Servers: to(b), MaxQueued: 3, Overflow: o})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		failed := 0
		var tokens []*client.Token
		for i := range 5 {
			token, err := c.PublishAsync(client.Message{Topic: "q", Payload: fmt.Append(nil, i), QoS: codec.QoS(i % 2)})
			if errors.Is(err, client.ErrQueueFull) {
				failed++
				continue
			}
			tokens = append(tokens, token)
		}
		if err := c.Connect(within(t)); err != nil {
			t.Fatal(err)
		}
		for _, token := range tokens {
			if _, err := token.Wait(within(t)); errors.Is(err, client.ErrQueueFull) {
				failed++
			}
		}
		text := ""
		for _, m := range got.await(t, len(want)) {
			text += string(m.Payload)
		}
		if text != want || failed != refused {
			t.Errorf("policy %d: got %s, %d refused; want %s, %d", o, text, failed, want, refused)
		}
	}
	f(client.Wait, "012", 2)
	f(client.DropNewest, "012", 2)
	f(client.DropOldest, "234", 2)
}

// TestRequest: a request is answered; one to nobody fails at once.
func TestRequest(t *testing.T) {
	covers(t, "U5-4.10")
	b := broker(t)
	server := connect(t, client.Options{Servers: to(b)})
	_, err := server.Subscribe(within(t), client.Subscription{Filter: "square", QoS: 1, Handler: func(m *client.Message) {
		if _, err := server.Respond(m, client.Message{Payload: bytes.Repeat(m.Payload, 2), QoS: 1}); err != nil {
			t.Error(err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, client.Options{Servers: to(b)})
	for _, ask := range []string{"a", "b"} {
		if answer, err := c.Request(within(t), client.Message{Topic: "square", Payload: []byte(ask), QoS: 1}); err != nil || string(answer.Payload) != ask+ask {
			t.Errorf("%+v, %v", answer, err)
		}
	}
	if _, err := c.Request(within(t), client.Message{Topic: "nobody", QoS: 1}); !errors.As(err, new(*client.Refused)) {
		t.Errorf("to nobody: %v", err)
	}
}

// TestBackPressure: a handler that publishes and waits, while messages of QoS 0
// pour in, neither hangs nor lets memory grow.
func TestBackPressure(t *testing.T) {
	b := broker(t)
	var dropped counters
	c := connect(t, client.Options{Servers: to(b), MaxArrived: 10, Metrics: &dropped})
	var got collector
	ctx := within(t)
	_, err := c.Subscribe(ctx, client.Subscription{Filter: "in", Handler: func(m *client.Message) {
		if _, err := c.Publish(ctx, client.Message{Topic: "out", QoS: 1, Payload: m.Payload}); err == nil { // else the test is over
			got.add(m)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	pub := connect(t, client.Options{Servers: to(b)})
	for range 2000 {
		if _, err := pub.Publish(within(t), client.Message{Topic: "in"}); err != nil {
			t.Fatal(err)
		}
	}
	got.await(t, 20)
}

type counters struct {
	mu      sync.Mutex
	dropped map[string]int
}

func (c *counters) Sent(codec.PacketType, int)     {}
func (c *counters) Received(codec.PacketType, int) {}
func (c *counters) Dropped(reason string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped == nil {
		c.dropped = map[string]int{}
	}
	c.dropped[reason] += n
}

// TestRefusals: what the broker says no to comes back with its code.
func TestRefusals(t *testing.T) {
	b := enginetest.Start(t, engine.Options{NoRetained: true, MaximumPacketSize: 1000, Listeners: []engine.Listener{{Address: "127.0.0.1:0", Anonymous: true}}})
	c := connect(t, client.Options{Servers: to(b)})
	f := func(m client.Message, want codec.ReasonCode) {
		t.Helper()
		_, err := c.Publish(within(t), m)
		if r := (*client.Refused)(nil); !errors.As(err, &r) || r.Code != want {
			t.Errorf("%+v: %v, want %v", m, err, want)
		}
	}
	f(client.Message{Topic: "a", QoS: 1, Retain: true}, codec.RetainNotSupported)
	f(client.Message{Topic: "a", QoS: 1, Payload: make([]byte, 2000)}, codec.PacketTooLarge)
	f(client.Message{Topic: "a", Payload: make([]byte, 2000)}, codec.PacketTooLarge)
	f(client.Message{Topic: "$SYS/x", QoS: 1}, codec.NotAuthorized)
	for _, m := range []client.Message{{}, {Topic: "a/#"}, {Topic: "a", QoS: 3}, {Topic: "a", ResponseTopic: "+"}} {
		if _, err := c.Publish(within(t), m); err == nil {
			t.Errorf("%+v is taken", m)
		}
	}
	if _, err := c.Subscribe(within(t), client.Subscription{Filter: "a/#/b"}); err == nil {
		t.Error("a bad filter is taken")
	}
	bad := enginetest.Start(t, engine.Options{Listeners: []engine.Listener{{Address: "127.0.0.1:0"}}})
	for _, v := range versions {
		n, err := client.New(client.Options{Servers: to(bad), Version: v, UserName: "x", Password: []byte("y")})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		if err := n.Connect(within(t)); !errors.As(err, new(*client.Refused)) {
			t.Errorf("%v: %v", v, err)
		}
	}
}

// TestServers: several in turn, a first that fails, one that names another.
func TestServers(t *testing.T) {
	b := broker(t)
	c := connect(t, client.Options{Servers: []string{"mqtt://127.0.0.1:1", b.Address()}, MinPause: time.Millisecond})
	if !c.IsConnected() || c.ClientID() == "" {
		t.Errorf("connected %v as %q", c.IsConnected(), c.ClientID())
	}
	n, err := client.New(client.Options{Servers: []string{"mqtt://127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.Connect(within(t)); err == nil {
		t.Error("connected to nobody")
	}
	for _, bad := range []string{"http://x", "mqtt://", "unix://", "ftp://x"} {
		if _, err := client.New(client.Options{Servers: []string{bad}}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestFirstMayFail: with FirstMayFail and in Run the first connection is waited for, until there is a broker.
func TestFirstMayFail(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &lateServer{l: l, away: true}
	t.Cleanup(p.close)
	attempts := make(chan int, 1000)
	o := client.Options{Servers: []string{"mqtt://" + l.Addr().String()}, FirstMayFail: true, MinPause: time.Millisecond, MaxPause: time.Millisecond,
		OnAttempt: func(_ string, n int, _ time.Duration) {
			select {
			case attempts <- n:
			default:
			}
		}}
	go p.serve(broker(t).Address())
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx, cancel := context.WithCancel(within(t))
	result := make(chan error, 1)
	go func() { result <- c.Connect(ctx) }()
	for n := range attempts {
		if n == 5 {
			break
		}
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) { // it goes on in the background
		t.Errorf("Connect: %v", err)
	}
	p.back()
	if err := c.Connected(within(t)); err != nil || !c.IsConnected() {
		t.Errorf("connected %v, %v", c.IsConnected(), err)
	}
}

// A lateServer takes connections and closes them, until it is back and passes them on.
type lateServer struct {
	l     net.Listener
	mu    sync.Mutex
	away  bool
	conns []net.Conn
}

func (p *lateServer) back() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = false
}

func (p *lateServer) close() {
	p.l.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
}

func (p *lateServer) serve(to string) {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		away := p.away
		p.conns = append(p.conns, in)
		p.mu.Unlock()
		out, err := net.Dial("tcp", to)
		if away || err != nil {
			in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, out)
		p.mu.Unlock()
		go func() { _, _ = io.Copy(out, in); out.Close() }()
		go func() { _, _ = io.Copy(in, out); in.Close() }()
	}
}

// TestTakenOver: a client whose identifier another takes does not take it back.
func TestTakenOver(t *testing.T) {
	covers(t, "B-takeover-loop")
	b := broker(t)
	lost := make(chan error, 1)
	c := connect(t, client.Options{Servers: to(b), ClientID: "same", MinPause: time.Millisecond, OnLost: func(err error) { lost <- err }})
	connect(t, client.Options{Servers: to(b), ClientID: "same"})
	if r, err := (*client.Refused)(nil), <-lost; !errors.As(err, &r) || r.Code != codec.SessionTakenOver {
		t.Errorf("lost: %v", err)
	}
	for end := time.Now().Add(enginetest.Patience); ; time.Sleep(time.Millisecond) {
		if _, err := c.Publish(within(t), client.Message{Topic: "x"}); errors.As(err, new(*client.Refused)) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it goes on")
		}
	}
}

// TestDoors: TCP, TLS, WebSocket and Unix sockets carry the same.
func TestDoors(t *testing.T) {
	covers(t, "MQTT-4.2.0-1")
	path := filepath.Join(t.TempDir(), "s")
	authority := certtest.New(t, "authority")
	certificate, key := authority.Issue(certtest.Request{})
	secure := func(who engine.ClientCertificates) *engine.TLS {
		return &engine.TLS{Certificates: []engine.KeyPair{{CertificateFile: certificate, KeyFile: key}}, CAFile: authority.File, ClientCertificates: who}
	}
	sockets := func() *engine.WebSocket { return &engine.WebSocket{PingInterval: 10 * time.Millisecond} }
	b := enginetest.Start(t, engine.Options{Listeners: []engine.Listener{{Address: "127.0.0.1:0", Anonymous: true}, {Address: "unix:" + path, Anonymous: true},
		{Address: "127.0.0.1:0", Anonymous: true, WebSocket: sockets()},
		{Address: "127.0.0.1:0", Anonymous: true, TLS: secure(engine.NoClientCertificate)},
		{Address: "127.0.0.1:0", Anonymous: true, TLS: secure(engine.NoClientCertificate), WebSocket: sockets()},
		{Address: "127.0.0.1:0", Identity: engine.IdentityCommonName, TLS: secure(engine.RequiredClientCertificate)}}})
	at := func(n int) string { return b.Addrs()[n].String() }
	for _, to := range []struct {
		server, protocol string // protocol: what TLS agrees on
		certificate      bool
	}{
		{"mqtt://" + at(0), "", false}, {"unix://" + path, "", false}, {"ws://" + at(2) + "/mqtt", "", false},
		{"mqtts://" + at(3), "mqtt", false}, {"wss://" + at(4) + "/mqtt", "", false}, {"mqtts://" + at(5), "mqtt", true},
	} {
		protocol := ""
		o := client.Options{Servers: []string{to.server}, TLS: &tls.Config{RootCAs: authority.Pool(),
			VerifyConnection: func(s tls.ConnectionState) error { protocol = s.NegotiatedProtocol; return nil }}}
		if to.certificate {
			o.TLS.Certificates = []tls.Certificate{authority.Certificate(certtest.Request{CommonName: "ada"})}
		}
		var got collector
		c := connect(t, o)
		if protocol != to.protocol {
			t.Errorf("%s: ALPN %q, want %q", to.server, protocol, to.protocol)
		}
		if _, err := c.Subscribe(within(t), client.Subscription{Filter: "d", QoS: 2, Handler: got.add}); err != nil {
			t.Fatal(err)
		}
		large := bytes.Repeat([]byte("0123456789"), 60_000)
		for i := range 9 {
			if _, err := c.Publish(within(t), client.Message{Topic: "d", Payload: large[:i*len(large)/8], QoS: codec.QoS(i % 3)}); err != nil {
				t.Fatalf("%s: %v", to.server, err)
			}
		}
		for i, m := range got.await(t, 9) {
			if !bytes.Equal(m.Payload, large[:len(m.Payload)]) {
				t.Errorf("%s: message %d is another", to.server, i)
			}
		}
		c.Close()
	}
	refused := func(server, want string, o *tls.Config) {
		t.Helper()
		c, err := client.New(client.Options{Servers: []string{server}, TLS: o, NoReconnect: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Connect(within(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", server, err, want)
		}
	}
	refused("mqtts://"+at(3), "unknown authority", nil)
	refused("wss://"+at(4)+"/mqtt", "unknown authority", nil)
	refused("mqtts://"+at(3), "valid for localhost, not elsewhere", &tls.Config{RootCAs: authority.Pool(), ServerName: "elsewhere"})
	refused("mqtts://"+at(3), "no application protocol", &tls.Config{RootCAs: authority.Pool(), NextProtos: []string{"other"}})
	refused("mqtts://"+at(5), "", &tls.Config{RootCAs: authority.Pool()}) // the alert may be lost with the connection
	refused("ws://"+at(2)+"/elsewhere", "WebSocket", nil)
}

// proxy passes bytes on, until it is told to cut.
type proxy struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	conns    []net.Conn
	isDeaf   bool
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, to: to}
	t.Cleanup(func() { l.Close(); p.cut() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			go p.pass(out, in, false)
			go p.pass(in, out, true)
		}
	}()
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) pass(to, from net.Conn, answers bool) {
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		drop := answers && p.isDeaf
		p.mu.Unlock()
		if !drop && n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	to.Close()
	from.Close()
}

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// deaf drops what the broker answers.
func (p *proxy) deaf(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isDeaf = on
}

func TestOptions(t *testing.T) {
	for want, o := range map[string]client.Options{
		"want V31":       {Version: 7},
		"up to 65535 s":  {KeepAlive: 100_000 * time.Second},
		"the will needs": {Will: &client.Will{}},
		"of MQTT 5.0":    {Version: client.V311, Auth: noAuth{}},
		"up to 23 bytes": {Version: client.V31, ClientID: strings.Repeat("x", 24)},
		"above 0":        {Timeout: -1},
	} {
		if _, err := client.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
}

type noAuth struct{}

func (noAuth) Method() string                        { return "none" }
func (noAuth) Begin(context.Context) ([]byte, error) { return nil, nil }
func (noAuth) Step([]byte, bool) ([]byte, error)     { return nil, nil }
