package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// A MQTTServerHelper is the class that users of MQTTnet write around its
// server: it checks user name and password and logs what happens.
type MQTTServerHelper struct {
	UserName, Password string
	Log                *slog.Logger

	broker *engine.Broker
}

func (h *MQTTServerHelper) Start(address string) (err error) {
	if h.broker, err = engine.New(engine.Options{Hooks: []any{h}, Listeners: []engine.Listener{{Address: address}}}); err != nil {
		return err
	}
	return h.broker.Start()
}

func (h *MQTTServerHelper) Stop(ctx context.Context) error { return h.broker.Stop(ctx) }

func (h *MQTTServerHelper) Authenticate(c *hook.Connect) codec.ReasonCode {
	if c.UserName != h.UserName || string(c.Password) != h.Password {
		return codec.BadUserNameOrPassword
	}
	return codec.Success
}

func (h *MQTTServerHelper) EventKinds() hook.EventKind {
	return hook.EventConnected | hook.EventDisconnected | hook.EventConnectionRefused | hook.EventSubscribed | hook.EventPublished
}

func (h *MQTTServerHelper) HandleEvent(_ context.Context, e hook.Event) {
	h.Log.Info(e.Kind.String(), "client", e.Client.ClientID, "filter", e.Subscription.Filter,
		"topic", string(e.Message.Topic), "payload", string(e.Message.Payload))
}

// The server helper of MQTTnet's users, and a client that comes to it.
func Example_serverHelper() {
	h := &MQTTServerHelper{UserName: "ada", Password: "secret", Log: logWithoutTime()}
	if err := h.Start("127.0.0.1:0"); err != nil {
		fmt.Println(err)
		return
	}
	c := paho(h.broker, "ada")
	c.Connect().Wait()
	subscribe(c, "t/#")
	c.Publish("t/1", 1, false, "hello").Wait()
	c.Disconnect(250)
	if err := h.Stop(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Unordered output:
	// level=INFO msg=connected client=ada filter="" topic="" payload=""
	// level=INFO msg=subscribed client=ada filter=t/# topic="" payload=""
	// level=INFO msg=published client=ada filter="" topic=t/1 payload=hello
	// level=INFO msg=disconnected client=ada filter="" topic="" payload=""
}

// logWithoutTime writes to standard output.
func logWithoutTime() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// A fleet is a program with a broker inside: its users are a map, each writes
// below a tree of its own, and the program reads all of them.
type fleet struct {
	passwords map[string]string // read-only
	seen      atomic.Int64
}

func (f *fleet) Authenticate(c *hook.Connect) codec.ReasonCode {
	if want, ok := f.passwords[c.UserName]; !ok || string(c.Password) != want {
		return codec.BadUserNameOrPassword
	}
	return codec.Success
}

func (f *fleet) InterceptPublish(c hook.Client, p *hook.Publication) hook.Outcome {
	p.Topic = []byte("fleet/" + c.UserName + "/" + string(p.Topic))
	return hook.Outcome{}
}

// A program that embeds the broker, with 1,000 clients.
func Example_embedded() {
	f := &fleet{passwords: make(map[string]string)}
	const clients = 1000
	for i := range clients {
		f.passwords[fmt.Sprintf("device%d", i)] = "secret"
	}
	b, err := engine.New(engine.Options{Hooks: []any{f}, Listeners: []engine.Listener{{Address: "127.0.0.1:0"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := b.Start(); err != nil {
		fmt.Println(err)
		return
	}
	all := make(chan struct{})
	_, err = b.Subscribe(context.Background(), engine.SubscribeOptions{Filter: "fleet/+/status", Queue: 2 * clients}, func(m engine.Message) {
		if f.seen.Add(1) == clients {
			fmt.Println(b.Connections(), "clients,", f.seen.Load(), "messages")
			close(all)
		}
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, 50)
	for i := range clients {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer wg.Done()
			c := paho(b, fmt.Sprintf("device%d", i))
			c.Connect().Wait()
			<-slots
			c.Publish("status", 1, false, "on").Wait()
			<-all
			c.Disconnect(0)
		}()
	}
	wg.Wait()
	if err := b.Stop(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: 1000 clients, 1000 messages
}
