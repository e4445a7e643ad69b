package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/xdg-go/scram"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/auth"
	"github.com/wheelmq/wheelmq/engine/client"
)

// The examples that MIGRATING.md names. Each runs against a broker of its own.

// exampleBroker starts a broker and returns its URL.
func exampleBroker(hooks ...any) (url string, stop func()) {
	b, err := engine.New(engine.Options{SysInterval: -1, Hooks: hooks, Listeners: []engine.Listener{{Address: "127.0.0.1:0", Anonymous: len(hooks) == 0}}})
	if err != nil {
		panic(err)
	}
	if err := b.Start(); err != nil {
		panic(err)
	}
	return "mqtt://" + b.Addrs()[0].String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = b.Stop(ctx) // of no interest to the example
	}
}

// exampleClient connects with o to a broker of its own.
func exampleClient(o client.Options) (c *client.Client, ctx context.Context, stop func()) {
	url, stopBroker := exampleBroker()
	o.Servers = []string{url}
	c, err := client.New(o)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	if err := c.Connect(ctx); err != nil {
		panic(err)
	}
	return c, ctx, func() {
		c.Close()
		cancel()
		stopBroker()
	}
}

func Example() {
	url, stop := exampleBroker()
	defer stop()
	ctx := context.Background()
	c, err := client.New(client.Options{Servers: []string{url}, ClientID: "house"})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := c.Connect(ctx); err != nil {
		fmt.Println(err)
		return
	}
	got := make(chan string)
	granted, err := c.Subscribe(ctx, client.Subscription{Filter: "house/#", QoS: 1, Handler: func(m *client.Message) {
		got <- fmt.Sprintf("%s: %s", m.Topic, m.Payload)
	}})
	fmt.Println(granted, err)
	_, err = c.Publish(ctx, client.Message{Topic: "house/door", Payload: []byte("open"), QoS: 1})
	fmt.Println(<-got, err)
	fmt.Println(c.Disconnect(ctx))
	// Output:
	// [granted QoS 1] <nil>
	// house/door: open <nil>
	// <nil>
}

// Run keeps a client connected until its context ends.
func ExampleClient_Run() {
	url, stop := exampleBroker()
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	c, err := client.New(client.Options{Servers: []string{url}, OnConnected: func(client.Connected) { cancel() }})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Run(ctx))
	// Output: <nil>
}

// PublishAsync does not wait; its token is what M2Mqtt's MqttMsgPublished event and paho's Token say.
func ExampleClient_PublishAsync() {
	c, ctx, stop := exampleClient(client.Options{})
	defer stop()
	token, err := c.PublishAsync(client.Message{Topic: "a", Payload: []byte("1"), QoS: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := token.Wait(ctx)
	fmt.Println(result.PacketID, err)
	// Output: 1 <nil>
}

func ExampleClient_Subscribe() {
	c, ctx, stop := exampleClient(client.Options{})
	defer stop()
	granted, err := c.Subscribe(ctx, client.Subscription{Filter: "a/+", QoS: 2}, client.Subscription{Filter: "b/#", QoS: 1})
	fmt.Println(granted, err)
	for _, s := range c.Subscriptions() {
		fmt.Println(s.Filter)
	}
	// Output:
	// [granted QoS 2 granted QoS 1] <nil>
	// a/+
	// b/#
}

// A channel in place of handlers: the handler sends.
func ExampleOptions_channel() {
	messages := make(chan *client.Message)
	c, ctx, stop := exampleClient(client.Options{Handler: func(m *client.Message) { messages <- m }})
	defer stop()
	if _, err := c.Subscribe(ctx, client.Subscription{Filter: "a"}); err != nil {
		fmt.Println(err)
	}
	if _, err := c.Publish(ctx, client.Message{Topic: "a", Payload: []byte("x")}); err != nil {
		fmt.Println(err)
	}
	m := <-messages
	fmt.Printf("%s %s %d %v %v\n", m.Topic, m.Payload, m.QoS, m.Retain, m.Dup)
	// Output: a x 0 false false
}

func ExampleClient_Unsubscribe() {
	c, ctx, stop := exampleClient(client.Options{})
	defer stop()
	_, err := c.Unsubscribe(ctx, "a/+")
	fmt.Println(err)
	// Output: <nil>
}

func ExampleClient_DisconnectWith() {
	c, ctx, stop := exampleClient(client.Options{Will: &client.Will{Message: client.Message{Topic: "gone"}}})
	defer stop()
	fmt.Println(c.IsConnected())
	fmt.Println(c.DisconnectWith(ctx, codec.DisconnectWithWill))
	fmt.Println(c.IsConnected())
	// Output:
	// true
	// <nil>
	// false
}

func ExampleOptions_will() {
	_, err := client.New(client.Options{
		ClientID: "pump-7", SessionExpiry: 3600,
		Will: &client.Will{Delay: 30, Message: client.Message{
			Topic: "pumps/7/state", Payload: []byte("lost"), QoS: 1, Retain: true, Text: true, Expiry: time.Hour, ContentType: "text/plain",
			ResponseTopic: "pumps/7/ask", Correlation: []byte("w"), Properties: []client.Property{{Name: "site", Value: "north"}},
		}},
	})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleOptions_session() {
	c, _, stop := exampleClient(client.Options{
		Version: client.V311, ClientID: "pump-7", CleanStart: false, KeepAlive: 20 * time.Second, Timeout: 5 * time.Second,
		MaxInflight: 20, MaxQueued: 500, Overflow: client.DropOldest, MinPause: time.Second, MaxPause: time.Minute,
	})
	defer stop()
	fmt.Println(c.ClientID(), c.IsConnected())
	// Output: pump-7 true
}

func ExampleOptions_servers() {
	url, stop := exampleBroker()
	defer stop()
	c, err := client.New(client.Options{
		Servers:      []string{"mqtt://127.0.0.1:1", url}, // tried in turn; a Server Reference goes before
		FirstMayFail: true, MinPause: 10 * time.Millisecond, MaxPause: 30 * time.Second,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	fmt.Println(c.Connect(ctx))
	// Output: <nil>
}

func ExampleOptions_properties() {
	c, _, stop := exampleClient(client.Options{
		SessionExpiry: 3600, ReceiveMaximum: 10, MaximumPacketSize: 1 << 20, TopicAliasMaximum: 8,
		Properties:  []client.Property{{Name: "build", Value: "7"}},
		OnConnected: func(i client.Connected) { fmt.Println(i.SessionPresent, i.MaximumQoS, i.SharedAvailable) },
	})
	defer stop()
	fmt.Println(c.IsConnected())
	// Output:
	// false 2 true
	// true
}

func ExampleOptions_tls() {
	authorities := x509.NewCertPool() // AppendCertsFromPEM with the CA's certificate
	_, err := client.New(client.Options{
		Servers: []string{"mqtts://broker.example", "wss://broker.example/mqtt"},
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authorities,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil },
			VerifyConnection:     func(tls.ConnectionState) error { return nil }, // what else the server's certificate must be
		},
	})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleOptions_webSocket() {
	_, err := client.New(client.Options{
		Servers: []string{"wss://broker.example/mqtt"},
		Header:  http.Header{"Cookie": {"session=7f"}, "Authorization": {"Bearer eyJhbGciOi"}},
	})
	fmt.Println(err)
	// Output: <nil>
}

// Dial is a network channel of one's own.
func ExampleOptions_dial() {
	c, _, stop := exampleClient(client.Options{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
		return d.DialContext(ctx, network, address)
	}})
	defer stop()
	fmt.Println(c.IsConnected())
	// Output: true
}

func ExampleOptions_credentials() {
	c, _, stop := exampleClient(client.Options{UserName: "ada", Credentials: func(context.Context) (string, []byte, error) {
		return "", nil, nil // asked before each connection
	}})
	defer stop()
	fmt.Println(c.IsConnected())
	// Output: true
}

// scramAuth proves a password without sending it (SCRAM-SHA-256), by xdg-go/scram.
type scramAuth struct {
	user, password string
	conversation   *scram.ClientConversation
}

func (*scramAuth) Method() string { return "SCRAM-SHA-256" }

func (a *scramAuth) Begin(context.Context) ([]byte, error) {
	c, err := scram.SHA256.NewClient(a.user, a.password, "")
	if err != nil {
		return nil, err
	}
	a.conversation = c.NewConversation()
	first, err := a.conversation.Step("")
	return []byte(first), err
}

func (a *scramAuth) Step(data []byte, success bool) ([]byte, error) {
	answer, err := a.conversation.Step(string(data))
	if err == nil && success && !a.conversation.Valid() {
		err = errors.New("the broker does not know the user")
	}
	return []byte(answer), err
}

func ExampleOptions_auth() {
	url, stop := scramBroker("ada", "secret")
	defer stop()
	for _, password := range []string{"secret", "other"} {
		c, err := client.New(client.Options{Servers: []string{url}, NoReconnect: true, Auth: &scramAuth{user: "ada", password: password}})
		if err != nil {
			fmt.Println(err)
			return
		}
		ctx := context.Background()
		if err = c.Connect(ctx); err == nil {
			err = c.Reauthenticate(ctx) // again, on the same connection
		}
		fmt.Println(err)
		c.Close()
	}
	// Output:
	// <nil>
	// client: CONNECT refused: not authorized: authentication failed
}

// scramBroker starts a broker with one user.
func scramBroker(user, password string) (url string, stop func()) {
	file := filepath.Join(os.TempDir(), fmt.Sprint("passwords-", os.Getpid()))
	hash, err := auth.NewHash(auth.SCRAM, password)
	if err != nil {
		panic(err)
	}
	users := new(auth.Passwords)
	if err := errors.Join(users.Set(user, hash), users.Write(file)); err != nil {
		panic(err)
	}
	defer os.Remove(file)
	files, err := auth.Open(auth.Options{PasswordFile: file})
	if err != nil {
		panic(err)
	}
	return exampleBroker(files, files.SCRAM())
}

func ExampleTokenFile() {
	file := filepath.Join(os.TempDir(), fmt.Sprint("token-", os.Getpid()))
	if err := os.WriteFile(file, []byte("eyJhbGciOi\n"), 0o600); err != nil {
		fmt.Println(err)
	}
	defer os.Remove(file)
	user, password, err := client.TokenFile("$sat", file)(context.Background())
	fmt.Printf("%s %s %v\n", user, password, err)
	// Output: $sat eyJhbGciOi <nil>
}

func ExampleOptions_events() {
	c, _, stop := exampleClient(client.Options{
		OnAttempt:   func(_ string, n int, _ time.Duration) { fmt.Println("attempt", n) },
		OnConnected: func(i client.Connected) { fmt.Println("connected, session kept:", i.SessionPresent) },
		OnLost:      func(err error) { fmt.Println("lost:", err) }, // and not when the client is closed
	})
	stop()
	fmt.Println(c.IsConnected())
	// Output:
	// attempt 1
	// connected, session kept: false
	// false
}

func ExampleOptions_tap() {
	c, ctx, stop := exampleClient(client.Options{Tap: func(sent bool, packet []byte) {
		if h, _, err := codec.ReadHeader(packet); err == nil && sent {
			fmt.Println(h.Type)
		}
	}})
	defer stop()
	if err := c.Disconnect(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// CONNECT
	// DISCONNECT
}

func ExampleOptions_retry() {
	c, ctx, stop := exampleClient(client.Options{Version: client.V31, ClientID: "old", RetryDelay: 10 * time.Second, RetryAttempts: 3})
	defer stop()
	_, err := c.Publish(ctx, client.Message{Topic: "a", QoS: 1})
	fmt.Println(err, errors.Is(err, client.ErrNoAnswer))
	// Output: <nil> false
}

// counts is a Metrics for a program that has its own way of showing figures.
type counts struct{ sent, received atomic.Int64 }

func (c *counts) Sent(codec.PacketType, int)     { c.sent.Add(1) }
func (c *counts) Received(codec.PacketType, int) { c.received.Add(1) }
func (c *counts) Dropped(reason string, n int)   { fmt.Println(n, "dropped:", reason) }

func ExampleOptions_metrics() {
	var m counts
	c, ctx, stop := exampleClient(client.Options{Metrics: &m})
	defer stop()
	if _, err := c.Publish(ctx, client.Message{Topic: "a", QoS: 1}); err != nil {
		fmt.Println(err)
	}
	fmt.Println(m.sent.Load(), "packets sent,", m.received.Load(), "received")
	// Output: 2 packets sent, 2 received
}

func ExampleOptions_logger() {
	quiet := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "server" || a.Key == "error" {
			return slog.Attr{}
		}
		return a
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: quiet}))
	c, err := client.New(client.Options{Servers: []string{"mqtt://127.0.0.1:1"}, NoReconnect: true, Logger: log})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	_ = c.Connect(context.Background())
	// Output: level=INFO msg="connecting failed" attempt=1
}

// Each message comes to one of those who share a subscription.
func ExampleClient_Subscribe_shared() {
	url, stop := exampleBroker()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	got := make(chan string, 2)
	var workers [2]*client.Client
	for i := range workers {
		w, err := client.New(client.Options{Servers: []string{url}})
		if err != nil {
			panic(err)
		}
		defer w.Close()
		if err := w.Connect(ctx); err != nil {
			panic(err)
		}
		_, err = w.Subscribe(ctx, client.Subscription{Filter: "$share/workers/jobs", QoS: 1, Handler: func(m *client.Message) { got <- string(m.Payload) }})
		if err != nil {
			panic(err)
		}
		workers[i] = w
	}
	for range 2 {
		if _, err := workers[0].Publish(ctx, client.Message{Topic: "jobs", QoS: 1, Payload: []byte("a job")}); err != nil {
			fmt.Println(err)
		}
		fmt.Println(<-got)
	}
	// Output:
	// a job
	// a job
}

// A topic that comes again at QoS 0 goes as an alias, where the broker takes aliases.
func ExampleClient_Publish_aliases() {
	c, ctx, stop := exampleClient(client.Options{Tap: func(sent bool, packet []byte) {
		if h, _, err := codec.ReadHeader(packet); err == nil && sent && h.Type == codec.PUBLISH {
			fmt.Println(len(packet), "bytes")
		}
	}})
	defer stop()
	for range 2 {
		if _, err := c.Publish(ctx, client.Message{Topic: "a/rather/long/topic/name"}); err != nil {
			fmt.Println(err)
		}
	}
	if err := c.Disconnect(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 32 bytes
	// 8 bytes
}

func ExampleMessage_Ack() {
	messages := make(chan *client.Message, 1)
	c, ctx, stop := exampleClient(client.Options{ManualAck: true, Handler: func(m *client.Message) { messages <- m }})
	defer stop()
	if _, err := c.Subscribe(ctx, client.Subscription{Filter: "a", QoS: 1}); err != nil {
		fmt.Println(err)
	}
	if _, err := c.Publish(ctx, client.Message{Topic: "a", QoS: 1, Payload: []byte("work")}); err != nil {
		fmt.Println(err)
	}
	m := <-messages
	fmt.Printf("%s is done\n", m.Payload)
	m.Ack()
	// Output: work is done
}

func ExampleClient_Request() {
	c, ctx, stop := exampleClient(client.Options{})
	defer stop()
	_, err := c.Subscribe(ctx, client.Subscription{Filter: "upper", QoS: 1, Handler: func(m *client.Message) {
		if _, err := c.Respond(m, client.Message{Payload: bytes.ToUpper(m.Payload), QoS: 1}); err != nil {
			fmt.Println(err)
		}
	}})
	if err != nil {
		fmt.Println(err)
	}
	answer, err := c.Request(ctx, client.Message{Topic: "upper", Payload: []byte("abc"), QoS: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", answer.Payload)
	// Output: ABC
}

// The store on disk brings back what a program published before it was killed.
func ExampleOpenFile() {
	folder, err := os.MkdirTemp("", "session")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	for range 2 {
		s, err := client.OpenFile(filepath.Join(folder, "session"))
		if err != nil {
			fmt.Println(err)
			return
		}
		c, err := client.New(client.Options{Store: s, ClientID: "pump-7", SessionExpiry: 3600})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(len(c.Restored()))
		if _, err := c.PublishAsync(client.Message{Topic: "a", QoS: 2}); err != nil {
			fmt.Println(err)
		}
		c.Close()
	}
	// Output:
	// 0
	// 1
}
