package engine_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"maps"
	"net"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	paho5 "github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// everyHook is a hook at every point, and counts its calls by method.
type everyHook struct {
	mu     sync.Mutex
	calls  map[string]int
	events hook.EventKind
}

func (h *everyHook) count(method string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls[method]++
}

// called is the methods that were called since the last time.
func (h *everyHook) called() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := slices.Sorted(maps.Keys(h.calls))
	return names
}

func (h *everyHook) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls, h.events = make(map[string]int), 0
}

var _ interface {
	hook.Authenticator
	hook.Authorizer
	hook.DeliveryAuthorizer
	hook.Decider
	hook.Rights
	hook.ReceiveRights
	hook.EnhancedAuthenticator
	hook.PublishInterceptor
	hook.SubscribeInterceptor
	hook.UnsubscribeInterceptor
	hook.DeliveryInterceptor
	hook.PacketInterceptor
	hook.PublishReviewer
	hook.SubscribeReviewer
	hook.LifeObserver
	hook.ListenerObserver
	hook.ConnectionObserver
	hook.ClientObserver
	hook.SubscriptionObserver
	hook.PublishObserver
	hook.UnconsumedObserver
	hook.DeliveryObserver
	hook.AckObserver
	hook.DropObserver
	hook.SessionObserver
	hook.RetainedObserver
	hook.RetainedSource
	hook.WillObserver
	hook.EventHandler
} = (*everyHook)(nil)

// whenConnected are the methods that clients have a part in, whenChallenged
// those of enhanced authentication.
var (
	whenConnected = []string{"Acknowledged", "Authenticate", "Authorize", "AuthorizeDelivery", "Connected", "ConnectionAccepted",
		"ConnectionRefused", "Decide", "Delivered", "Disconnected", "Dropped", "HandleEvent", "InterceptDelivery", "InterceptPacket",
		"InterceptPublish", "InterceptSubscribe", "InterceptUnsubscribe", "May", "MayReceive", "NotConsumed", "Published",
		"RetainedChanged", "ReviewPublish", "ReviewSubscribe", "SessionChanged", "Subscribed", "Unsubscribed", "WillPublished"}
	whenChallenged = []string{"Begin", "Decision", "StepContext"}
)

func (h *everyHook) Authenticate(*hook.Connect) codec.ReasonCode { h.count("Authenticate"); return 0 }
func (h *everyHook) Authorize(hook.Client, hook.Action, []byte) bool {
	h.count("Authorize")
	return true
}
func (h *everyHook) AuthorizeDelivery(hook.Client, []byte) bool {
	h.count("AuthorizeDelivery")
	return true
}
func (h *everyHook) May(hook.Action, []byte) bool { h.count("May"); return true }
func (h *everyHook) MayReceive([]byte) bool       { h.count("MayReceive"); return true }
func (h *everyHook) Decide(_ context.Context, c *hook.Connect) (hook.Decision, error) {
	h.count("Decide")
	if c.UserName == "eve" {
		return hook.Decision{Verdict: hook.Refuse, Code: codec.Banned, Reason: "not you"}, nil
	}
	return hook.Decision{Verdict: hook.Accept, Rights: h}, nil
}
func (h *everyHook) InterceptPublish(_ hook.Client, p *hook.Publication) hook.Outcome {
	h.count("InterceptPublish")
	return hook.Outcome{Stop: string(p.Topic) == "stop"}
}
func (h *everyHook) InterceptSubscribe(hook.Client, *hook.Subscription) codec.ReasonCode {
	h.count("InterceptSubscribe")
	return 0
}
func (h *everyHook) InterceptUnsubscribe(_ hook.Client, f string) (string, codec.ReasonCode) {
	h.count("InterceptUnsubscribe")
	return f, 0
}
func (h *everyHook) InterceptDelivery(hook.Client, *hook.Delivery) bool {
	h.count("InterceptDelivery")
	return true
}
func (h *everyHook) InterceptPacket(_ hook.Client, p hook.Packet) bool {
	if _, err := p.Decode(); err == nil {
		h.count("InterceptPacket")
	}
	return true
}
func (h *everyHook) ReviewPublish(_ context.Context, _ hook.Client, p *hook.Publication) (hook.Outcome, error) {
	h.count("ReviewPublish")
	if string(p.Topic) == "reviewed" {
		p.Topic, p.Payload = []byte("a/reviewed"), append(bytes.ToUpper(p.Payload), '!')
	}
	return hook.Outcome{}, nil
}
func (h *everyHook) ReviewSubscribe(_ context.Context, _ hook.Client, s *hook.Subscription) (codec.ReasonCode, error) {
	h.count("ReviewSubscribe")
	if s.Filter == "reviewed/no" {
		return codec.QuotaExceeded, nil
	}
	return 0, nil
}
func (h *everyHook) Started()                        { h.count("Started") }
func (h *everyHook) Stopped()                        { h.count("Stopped") }
func (h *everyHook) ListenerOpened(string, net.Addr) { h.count("ListenerOpened") }
func (h *everyHook) ListenerClosed(string, net.Addr) { h.count("ListenerClosed") }
func (h *everyHook) ConnectionAccepted(hook.Client)  { h.count("ConnectionAccepted") }
func (h *everyHook) ConnectionRefused(hook.Client, codec.ReasonCode, string) {
	h.count("ConnectionRefused")
}
func (h *everyHook) Connected(hook.Client, hook.Connected)                     { h.count("Connected") }
func (h *everyHook) Disconnected(hook.Client, hook.Disconnected)               { h.count("Disconnected") }
func (h *everyHook) Subscribed(hook.Client, hook.Subscription)                 { h.count("Subscribed") }
func (h *everyHook) Unsubscribed(hook.Client, string)                          { h.count("Unsubscribed") }
func (h *everyHook) Published(hook.Client, hook.Publication, codec.ReasonCode) { h.count("Published") }
func (h *everyHook) NotConsumed(hook.Client, hook.Publication)                 { h.count("NotConsumed") }
func (h *everyHook) Delivered(hook.Client, hook.Delivery, uint16)              { h.count("Delivered") }
func (h *everyHook) Acknowledged(hook.Client, uint16, codec.QoS)               { h.count("Acknowledged") }
func (h *everyHook) Dropped(hook.Drop)                                         { h.count("Dropped") }
func (h *everyHook) SessionChanged(string, hook.SessionEvent)                  { h.count("SessionChanged") }
func (h *everyHook) RetainedChanged(string, *hook.Publication)                 { h.count("RetainedChanged") }
func (h *everyHook) WillPublished(hook.Client, hook.Publication)               { h.count("WillPublished") }
func (h *everyHook) LoadRetained(context.Context, func(hook.Publication) error) error {
	h.count("LoadRetained")
	return nil
}
func (h *everyHook) EventKinds() hook.EventKind { return hook.AllEvents }
func (h *everyHook) HandleEvent(_ context.Context, e hook.Event) {
	h.count("HandleEvent")
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events |= e.Kind
}

// Method and what follows are a challenge and response in the manner of SCRAM:
// the client proves that it knows the password, which PBKDF2 makes slow.
func (h *everyHook) Method() string                     { return "PROOF" }
func (h *everyHook) Begin(*hook.Connect) hook.Exchange  { h.count("Begin"); return &proof{h: h} }
func (p *proof) Step([]byte) ([]byte, codec.ReasonCode) { panic("it has StepContext") }
func (p *proof) Decision() hook.Decision {
	p.h.count("Decision")
	return hook.Decision{UserName: "proven", Rights: p.h}
}

type proof struct {
	h     *everyHook
	asked bool
}

func prove(password string, challenge []byte) []byte {
	key, err := pbkdf2.Key(sha256.New, password, challenge, 4096, sha256.Size)
	if err != nil {
		panic(err)
	}
	return key
}

func (p *proof) StepContext(_ context.Context, data []byte) ([]byte, codec.ReasonCode) {
	p.h.count("StepContext")
	if !p.asked {
		p.asked = true
		return []byte("nonce"), codec.ContinueAuthentication
	}
	if !hmac.Equal(data, prove("secret", []byte("nonce"))) {
		return nil, codec.NotAuthorized
	}
	return nil, codec.Success
}

// prover answers for the client.
type prover struct{ password string }

func (p prover) Authenticated() {}
func (p prover) Authenticate(a *paho5.Auth) *paho5.Auth {
	return &paho5.Auth{ReasonCode: byte(codec.ContinueAuthentication), Properties: &paho5.AuthProperties{
		AuthMethod: "PROOF", AuthData: prove(p.password, a.Properties.AuthData)}}
}

// wait is how long a test waits for what must happen.
const wait = 20 * time.Second

func startWith(t *testing.T, hooks ...any) *engine.Broker {
	t.Helper()
	b, err := engine.New(engine.Options{Hooks: hooks, SysInterval: -1, Listeners: []engine.Listener{{Address: "127.0.0.1:0"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	return b
}

func stopIt(t *testing.T, b *engine.Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := b.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// awaitCalls waits until all methods were called.
func (h *everyHook) awaitCalls(t *testing.T, methods ...string) {
	t.Helper()
	var missing []string
	for end := time.Now().Add(wait); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		called := h.called()
		missing = slices.DeleteFunc(slices.Clone(methods), func(m string) bool { return slices.Contains(called, m) })
		if len(missing) == 0 {
			return
		}
	}
	t.Errorf("never called: %q", missing)
}

func TestEveryHookWithPaho3(t *testing.T) {
	h := &everyHook{calls: make(map[string]int)}
	b := startWith(t, h)
	h.awaitCalls(t, "ListenerOpened", "Started", "LoadRetained")
	for _, version := range []uint{3, 4} {
		h.reset()
		talkPaho3(t, b, version)
		h.awaitCalls(t, whenConnected...)
	}
	stopIt(t, b)
	h.awaitCalls(t, "Stopped", "ListenerClosed")
}

// talkPaho3 is a conversation that comes by every hook.
func talkPaho3(t *testing.T, b *engine.Broker, version uint) {
	t.Helper()
	done := func(token mqtt.Token) {
		t.Helper()
		if !token.WaitTimeout(wait) || token.Error() != nil {
			t.Fatalf("paho: %v", token.Error())
		}
	}
	var conn net.Conn
	dial := func(id, user string, will bool) mqtt.Client {
		o := mqtt.NewClientOptions().AddBroker("tcp://" + b.Addrs()[0].String()).SetClientID(id).SetUsername(user).SetPassword("x").
			SetProtocolVersion(version).SetAutoReconnect(false).SetConnectRetry(false)
		if will {
			o.SetWill("a/will", "gone", 1, false)
			o.SetCustomOpenConnectionFn(openInto(&conn, b))
		}
		return mqtt.NewClient(o)
	}
	if c := dial("eve", "eve", false).Connect(); !c.WaitTimeout(wait) || c.Error() == nil {
		t.Fatal("eve came in")
	}
	got := make(chan string, 10)
	sub := dial("sub", "ada", false)
	done(sub.Connect())
	done(sub.Subscribe("a/#", 1, func(_ mqtt.Client, m mqtt.Message) { got <- m.Topic() + " " + string(m.Payload()) }))
	pub := dial("pub", "ada", true)
	done(pub.Connect())
	for _, m := range [][2]string{{"a/1", "x"}, {"reviewed", "x"}, {"nobody", "x"}, {"stop", "x"}} {
		done(pub.Publish(m[0], 1, false, m[1]))
	}
	done(pub.Publish("kept", 1, true, "x"))
	done(pub.Publish("kept", 1, true, ""))
	_ = conn.Close()
	for _, want := range []string{"a/1 x", "a/reviewed X!", "a/will gone"} {
		expectOf(t, got, want)
	}
	done(sub.Unsubscribe("a/#"))
	sub.Disconnect(100)
}

func TestEveryHookWithPaho5(t *testing.T) {
	h := &everyHook{calls: make(map[string]int)}
	b := startWith(t, h)
	for _, method := range []string{"", "PROOF"} {
		h.reset()
		talkPaho5(t, b, method)
		want := whenConnected
		if method != "" { // in place of Authenticators and Deciders
			want = slices.DeleteFunc(slices.Clone(want), func(m string) bool { return m == "Authenticate" || m == "Decide" })
			want = append(want, whenChallenged...)
		}
		h.awaitCalls(t, want...)
		never := func() hook.EventKind {
			h.mu.Lock()
			defer h.mu.Unlock()
			return hook.AllEvents &^ h.events &^ (hook.EventListenerOpened | hook.EventListenerClosed)
		}
		for end := time.Now().Add(wait); never() != 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no events of kinds %b", never())
			}
		}
	}
	stopIt(t, b)
}

// dialPaho5 makes a client of Eclipse Paho for MQTT 5.
func dialPaho5(t *testing.T, b *engine.Broker, got chan<- string, ended chan<- byte, auth paho5.Auther) *paho5.Client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", b.Addrs()[0].String(), wait)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return paho5.NewClient(paho5.ClientConfig{Conn: conn, PacketTimeout: wait, AuthHandler: auth,
		OnPublishReceived: []func(paho5.PublishReceived) (bool, error){func(r paho5.PublishReceived) (bool, error) {
			got <- r.Packet.Topic + " " + string(r.Packet.Payload)
			return true, nil
		}},
		OnServerDisconnect: func(d *paho5.Disconnect) { ended <- d.ReasonCode },
		OnClientError:      func(error) {},
	})
}

func connectAs(id, user, method string) *paho5.Connect {
	c := &paho5.Connect{ClientID: id, Username: user, UsernameFlag: true, KeepAlive: 60, CleanStart: true}
	if method != "" {
		c.Properties = &paho5.ConnectProperties{AuthMethod: method}
	}
	return c
}

func talkPaho5(t *testing.T, b *engine.Broker, method string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	got, ended := make(chan string, 10), make(chan byte, 10)
	eve := dialPaho5(t, b, got, ended, prover{"guess"})
	if ack, err := eve.Connect(ctx, connectAs("eve", "eve", method)); err == nil || ack == nil || ack.ReasonCode < 0x80 {
		t.Fatalf("eve came in: %v, %v", ack, err)
	}
	sub, pub := dialPaho5(t, b, got, ended, prover{"secret"}), dialPaho5(t, b, got, ended, prover{"secret"})
	mustDo(t)(sub.Connect(ctx, connectAs("sub", "ada", method)))
	ack, err := sub.Subscribe(ctx, &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: "a/#", QoS: 1}, {Topic: "reviewed/no"}}})
	if ack == nil || !bytes.Equal(ack.Reasons, []byte{1, 0x97}) {
		t.Fatalf("SUBACK %v, %v", ack, err)
	}
	will := connectAs("pub", "ada", method)
	will.WillMessage = &paho5.WillMessage{Topic: "a/will", Payload: []byte("gone"), QoS: 1}
	mustDo(t)(pub.Connect(ctx, will))
	if method != "" {
		again, err := pub.Authenticate(ctx, &paho5.Auth{ReasonCode: byte(codec.ReAuthenticate), Properties: &paho5.AuthProperties{AuthMethod: method}})
		if err != nil || !again.Success {
			t.Fatalf("authentication again: %v, %v", again, err)
		}
	}
	for _, m := range []paho5.Publish{{Topic: "a/1", Payload: []byte("x")}, {Topic: "reviewed", Payload: []byte("x")}, {Topic: "nobody"},
		{Topic: "stop"}, {Topic: "kept", Payload: []byte("x"), Retain: true}, {Topic: "kept", Retain: true}} {
		m.QoS = 1
		mustDo(t)(pub.Publish(ctx, &m))
	}
	if err := pub.Disconnect(&paho5.Disconnect{ReasonCode: byte(codec.DisconnectWithWill)}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a/1 x", "a/reviewed X!", "a/will gone"} {
		expectOf(t, got, want)
	}
	mustDo(t)(sub.Unsubscribe(ctx, &paho5.Unsubscribe{Topics: []string{"a/#"}}))
	if err := sub.Disconnect(&paho5.Disconnect{}); err != nil {
		t.Fatal(err)
	}
}

func expectOf(t *testing.T, got <-chan string, want string) {
	t.Helper()
	select {
	case m := <-got:
		if m != want {
			t.Fatalf("received %q, want %q", m, want)
		}
	case <-time.After(wait):
		t.Fatalf("%q did not come", want)
	}
}

// mustDo takes what paho's calls return.
func mustDo(t *testing.T) func(result any, err error) {
	return func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal("paho: ", err)
		}
	}
}

// openInto dials for paho and keeps the connection, for the test to cut.
func openInto(conn *net.Conn, b *engine.Broker) mqtt.OpenConnectionFunc {
	return func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		c, err := net.DialTimeout("tcp", b.Addrs()[0].String(), wait)
		*conn = c
		return c, err
	}
}

// gatekeeper gives each client terms of its own, and is told which
// subscriptions end.
type gatekeeper struct{ ended chan string }

func (g *gatekeeper) Decide(_ context.Context, c *hook.Connect) (hook.Decision, error) {
	d := hook.Decision{Verdict: hook.Accept, Reason: "welcome", UserProperties: codec.AppendUserProperty(nil, "zone", "b"),
		KeepAlive: 30, ReceiveMaximum: 7, Rights: below("a/")}
	switch c.UserName {
	case "moved":
		return hook.Decision{Verdict: hook.Refuse, Code: codec.UseAnotherServer, ServerReference: "other:1883"}, nil
	case "guest":
		d.Until = time.Now().Add(time.Second)
	}
	return d, nil
}

func (g *gatekeeper) Subscribed(hook.Client, hook.Subscription) {}
func (g *gatekeeper) Unsubscribed(c hook.Client, filter string) { g.ended <- c.ClientID + " " + filter }

// below are rights to what begins so.
type below string

func (b below) May(_ hook.Action, topic []byte) bool { return bytes.HasPrefix(topic, []byte(b)) }

func TestTermsWithPaho5(t *testing.T) {
	g := &gatekeeper{ended: make(chan string, 10)}
	b := startWith(t, g)
	defer stopIt(t, b)
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	got, ended := make(chan string, 10), make(chan byte, 10)
	dial := func() *paho5.Client { return dialPaho5(t, b, got, ended, nil) }

	ack, _ := dial().Connect(ctx, connectAs("m", "moved", ""))
	if ack == nil || ack.ReasonCode != 0x9C || ack.Properties.ServerReference != "other:1883" {
		t.Errorf("CONNACK for who is to go elsewhere: %v", ack)
	}
	c := dial()
	ack, err := c.Connect(ctx, connectAs("c", "ada", ""))
	if err != nil {
		t.Fatal(err)
	}
	p := ack.Properties
	if p.ReasonString != "welcome" || p.User.Get("zone") != "b" || *p.ServerKeepAlive != 30 || *p.ReceiveMaximum != 7 {
		t.Errorf("terms in CONNACK: %v", p)
	}
	sub, _ := c.Subscribe(ctx, &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: "a/#", QoS: 1}, {Topic: "a/b", QoS: 1}, {Topic: "c"}}})
	if sub == nil || !bytes.Equal(sub.Reasons, []byte{1, 1, 0x87}) {
		t.Fatalf("SUBACK %v", sub)
	}
	if r, _ := c.Publish(ctx, &paho5.Publish{Topic: "c", QoS: 1}); r == nil || r.ReasonCode != 0x87 {
		t.Errorf("PUBACK for what may not be published: %v", r)
	}

	// The rights become narrower while the client is there.
	if err := b.Reauthorize(ctx, func(hook.Client, hook.Rights) hook.Rights { return below("a/b") }); err != nil {
		t.Fatal(err)
	}
	expectOf(t, g.ended, "c a/#")
	for _, topic := range []string{"a/c", "a/b"} {
		if _, err := b.Publish(ctx, engine.Message{Topic: topic, Payload: []byte("x"), QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	expectOf(t, got, "a/b x")

	mustDo(t)(dial().Connect(ctx, connectAs("g", "guest", "")))
	select {
	case code := <-ended:
		if code != 0x87 {
			t.Errorf("DISCONNECT 0x%02X at the end of the right to be connected, want 0x87", code)
		}
	case <-ctx.Done():
		t.Error("a client stays whose right to be connected has ended")
	}
}
