package engine_test

import (
	"context"
	"fmt"
	"net"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// One example for each event and interceptor of MQTTnet's server, in the order
// of the table in the package documentation. drive runs a broker with hooks and
// a client of Eclipse Paho against it.

// drive lets client act on a broker with hooks, and waits until what it did is done.
func drive(client func(b *engine.Broker, c mqtt.Client), hooks ...any) {
	b, err := engine.New(engine.Options{Hooks: hooks, SysInterval: -1,
		Listeners: []engine.Listener{{Name: "door", Address: "127.0.0.1:0", Anonymous: true}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := b.Start(); err != nil {
		fmt.Println(err)
		return
	}
	c := paho(b, "ada")
	if t := c.Connect(); t.Wait() && t.Error() != nil {
		fmt.Println("connect:", t.Error())
	} else {
		client(b, c)
		c.Disconnect(250)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for b.Connections() > 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if err := b.Stop(ctx); err != nil {
		fmt.Println(err)
	}
}

func paho(b *engine.Broker, id string) mqtt.Client {
	return mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + b.Addrs()[0].String()).SetClientID(id).
		SetUsername(id).SetPassword("secret").SetConnectRetry(false).SetAutoReconnect(false).SetOrderMatters(true))
}

// publish sends one message of QoS 1 and waits for its acknowledgement.
func publish(topic, payload string) func(*engine.Broker, mqtt.Client) {
	return func(_ *engine.Broker, c mqtt.Client) { c.Publish(topic, 1, false, payload).Wait() }
}

func subscribe(c mqtt.Client, filter string) {
	c.Subscribe(filter, 1, func(_ mqtt.Client, m mqtt.Message) {}).Wait()
}

func nothing(*engine.Broker, mqtt.Client) {}

type validate struct{}

func (validate) Decide(_ context.Context, c *hook.Connect) (hook.Decision, error) {
	if c.UserName == "ada" && string(c.Password) == "secret" {
		return hook.Decision{Verdict: hook.Accept, Data: "whatever the program wants to know of the session"}, nil
	}
	return hook.Decision{Verdict: hook.Refuse, Code: codec.BadUserNameOrPassword}, nil
}

// ValidatingConnection: hook.Decider off the loops, hook.Authenticator on them.
func Example_validatingConnection() {
	drive(func(b *engine.Broker, _ mqtt.Client) {
		t := paho(b, "eve").Connect()
		t.Wait()
		fmt.Println(t.Error())
	}, validate{})
	// Output: bad user name or password
}

type comings struct{}

func (comings) Connected(c hook.Client, e hook.Connected) {
	fmt.Println(c.ClientID, "came by", c.Listener)
}
func (comings) Disconnected(c hook.Client, e hook.Disconnected) {
	fmt.Println(c.ClientID, "left, said goodbye:", e.By == hook.ByClient)
}

// ClientConnected and ClientDisconnected: hook.ClientObserver.
func Example_clientConnected() {
	drive(nothing, comings{})
	// Output:
	// ada came by door
	// ada left, said goodbye: true
}

type tenants struct{}

func (tenants) InterceptSubscribe(c hook.Client, s *hook.Subscription) codec.ReasonCode {
	s.Filter = c.UserName + "/" + s.Filter
	return codec.Success
}

func (tenants) InterceptUnsubscribe(c hook.Client, filter string) (string, codec.ReasonCode) {
	return c.UserName + "/" + filter, codec.Success
}

type subscriptions struct{}

func (subscriptions) Subscribed(c hook.Client, s hook.Subscription) {
	fmt.Println(c.ClientID, "subscribed", s.Filter)
}
func (subscriptions) Unsubscribed(c hook.Client, filter string) {
	fmt.Println(c.ClientID, "unsubscribed", filter)
}

// InterceptingSubscription and InterceptingUnsubscription:
// hook.SubscribeInterceptor, hook.UnsubscribeInterceptor.
// ClientSubscribedTopic and ClientUnsubscribedTopic: hook.SubscriptionObserver.
func Example_interceptingSubscription() {
	drive(func(_ *engine.Broker, c mqtt.Client) {
		subscribe(c, "news")
		c.Unsubscribe("news").Wait()
	}, tenants{}, subscriptions{})
	// Output:
	// ada subscribed ada/news
	// ada unsubscribed ada/news
}

type rewrite struct{}

func (rewrite) InterceptPublish(c hook.Client, p *hook.Publication) hook.Outcome {
	if string(p.Topic) == "secret" {
		return hook.Outcome{Stop: true, Code: codec.NotAuthorized, Reason: "not here"}
	}
	p.Topic = []byte("from/" + c.ClientID + "/" + string(p.Topic))
	return hook.Outcome{}
}

type messages struct{}

func (messages) Published(c hook.Client, p hook.Publication, code codec.ReasonCode) {
	fmt.Printf("%s: %s = %s, %v\n", c.ClientID, p.Topic, p.Payload, code)
}

// InterceptingPublish: hook.PublishInterceptor.
func Example_interceptingPublish() {
	drive(func(b *engine.Broker, c mqtt.Client) {
		publish("temperature", "21.5")(b, c)
		publish("secret", "x")(b, c)
	}, rewrite{}, messages{})
	// Output: ada: from/ada/temperature = 21.5, no matching subscribers
}

type unconsumed struct{}

func (unconsumed) NotConsumed(c hook.Client, p hook.Publication) {
	fmt.Printf("nobody wants %s of %s\n", p.Topic, c.ClientID)
}

// ApplicationMessageNotConsumed: hook.UnconsumedObserver.
func Example_applicationMessageNotConsumed() {
	drive(publish("void", "x"), unconsumed{})
	// Output: nobody wants void of ada
}

type enqueue struct{}

func (enqueue) InterceptDelivery(to hook.Client, d *hook.Delivery) bool {
	fmt.Printf("%s to %s: %s\n", d.From, to.ClientID, d.Topic)
	return to.ClientID != d.From
}

type drops struct{}

func (drops) Dropped(d hook.Drop) { fmt.Printf("%s for %s dropped: %v\n", d.Topic, d.To, d.Why) }

// InterceptingClientEnqueue: hook.DeliveryInterceptor.
// ApplicationMessageEnqueuedOrDropped and QueueMessageOverwritten:
// hook.DeliveryObserver for what is sent, hook.DropObserver for what is not.
func Example_interceptingClientEnqueue() {
	drive(func(b *engine.Broker, c mqtt.Client) {
		subscribe(c, "t")
		publish("t", "x")(b, c)
	}, enqueue{}, drops{})
	// Output:
	// ada to ada: t
	// t for ada dropped: intercepted
}

type acks struct{ told chan string }

func (a acks) Acknowledged(c hook.Client, packetID uint16, qos codec.QoS) {
	a.told <- fmt.Sprintf("%s acknowledged packet %d", c.ClientID, packetID)
}

// ClientAcknowledgedPublishPacket: hook.AckObserver.
func Example_clientAcknowledgedPublishPacket() {
	a := acks{make(chan string, 1)}
	drive(func(b *engine.Broker, c mqtt.Client) {
		subscribe(c, "t")
		publish("t", "x")(b, c)
		fmt.Println(<-a.told)
	}, a)
	// Output: ada acknowledged packet 1
}

type packets struct{}

func (packets) InterceptPacket(_ hook.Client, p hook.Packet) bool {
	v, err := p.Decode()
	fmt.Printf("out %v: %v, %d bytes, %T, %v\n", p.Out, p.Header.Type, len(p.Raw), v, err)
	return true
}

// InterceptingInboundPacket and InterceptingOutboundPacket: hook.PacketInterceptor.
func Example_interceptingPackets() {
	drive(nothing, packets{})
	// Output:
	// out false: CONNECT, 30 bytes, *codec.Connect, <nil>
	// out true: CONNACK, 4 bytes, *codec.Connack, <nil>
	// out false: DISCONNECT, 2 bytes, *codec.Disconnect, <nil>
}

type sessions struct{}

func (sessions) SessionChanged(clientID string, e hook.SessionEvent) {
	fmt.Println("session of", clientID, e)
}

// PreparingSession and SessionDeleted: hook.SessionObserver; what the session
// carries comes with hook.Decision.
func Example_sessionDeleted() {
	drive(nothing, sessions{})
	// Output:
	// session of ada created
	// session of ada deleted
}

type retained struct{}

func (retained) LoadRetained(_ context.Context, load func(hook.Publication) error) error {
	return load(hook.Publication{Topic: []byte("lamp"), Payload: []byte("on")})
}

func (retained) RetainedChanged(topic string, p *hook.Publication) {
	if p == nil {
		fmt.Println(topic, "is gone")
		return
	}
	fmt.Printf("%s is %s\n", topic, p.Payload)
}

// LoadingRetainedMessage: hook.RetainedSource. RetainedMessageChanged and
// RetainedMessagesCleared: hook.RetainedObserver.
func Example_retainedMessageChanged() {
	drive(func(b *engine.Broker, c mqtt.Client) {
		b.RetainedMessages("#", func(m engine.Message) bool {
			fmt.Printf("loaded %s\n", m.Topic)
			return true
		})
		c.Publish("lamp", 1, true, "off").Wait()
		if _, err := b.ClearRetained(context.Background(), "#"); err != nil {
			fmt.Println(err)
		}
	}, retained{})
	// Output:
	// loaded lamp
	// lamp is off
	// lamp is gone
}

type life struct{}

func (life) Started()                               { fmt.Println("started") }
func (life) Stopped()                               { fmt.Println("stopped") }
func (life) ListenerOpened(name string, _ net.Addr) { fmt.Println(name, "is open") }
func (life) ListenerClosed(name string, _ net.Addr) { fmt.Println(name, "is closed") }

// Started and Stopped: hook.LifeObserver; hook.ListenerObserver for the doors.
func Example_started() {
	drive(func(b *engine.Broker, _ mqtt.Client) {
		if err := b.CloseListener("door"); err != nil {
			fmt.Println(err)
		}
	}, life{})
	// Output:
	// door is open
	// started
	// door is closed
	// stopped
}

// InjectApplicationMessage: Broker.Publish, which waits, and Broker.Post.
func ExampleBroker_Publish() {
	drive(func(b *engine.Broker, c mqtt.Client) {
		got := make(chan string, 1)
		c.Subscribe("news", 1, func(_ mqtt.Client, m mqtt.Message) { got <- string(m.Payload()) }).Wait()
		code, err := b.Publish(context.Background(), engine.Message{Topic: "news", Payload: []byte("hello"), QoS: 1})
		fmt.Println(code, err, <-got)
	})
	// Output: success <nil> hello
}

// A program listens without a client of its own.
func ExampleBroker_Subscribe() {
	drive(func(b *engine.Broker, c mqtt.Client) {
		got := make(chan engine.Message, 1)
		s, err := b.Subscribe(context.Background(), engine.SubscribeOptions{Filter: "t/#"}, func(m engine.Message) { got <- m })
		if err != nil {
			fmt.Println(err)
			return
		}
		defer s.Cancel()
		publish("t/1", "x")(b, c)
		m := <-got
		fmt.Printf("%s %s from %s\n", m.Topic, m.Payload, m.From)
	})
	// Output: t/1 x from ada
}

// GetClients and GetSessions: Broker.Sessions and Broker.Session.
func ExampleBroker_Sessions() {
	drive(func(b *engine.Broker, c mqtt.Client) {
		subscribe(c, "t")
		err := b.Sessions(context.Background(), func(s engine.SessionStatus) bool {
			fmt.Println(s.ClientID, s.UserName, s.Connected, s.Subscriptions)
			return true
		})
		fmt.Println(err)
	})
	// Output:
	// ada ada true 1
	// <nil>
}

// DisconnectClient, DeleteSession, SubscribeAsync and UnsubscribeAsync of the
// server: Broker.Disconnect, DeleteSession, SubscribeClient, UnsubscribeClient.
func ExampleBroker_DeleteSession() {
	drive(func(b *engine.Broker, c mqtt.Client) {
		ctx := context.Background()
		codes, _, err := b.SubscribeClient(ctx, "ada", hook.Subscription{Filter: "news", QoS: 1})
		fmt.Println(codes, err)
		fmt.Println(b.DeleteSession(ctx, "ada"))
		fmt.Println(b.DeleteSession(ctx, "ada"))
	})
	// Output:
	// [granted QoS 1] <nil>
	// true <nil>
	// false <nil>
}
