package client_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	golang "github.com/eclipse/paho.golang/paho"
	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/client"
	"github.com/wheelmq/wheelmq/engine/enginetest"
)

// BenchmarkPublish publishes 64 bytes beside paho.mqtt.golang and paho.golang to the same broker, which runs in this
// process: allocations include its own, which are none per message. At QoS 1 up to 64 are in flight. It ends when the
// broker has acknowledged the last message.
func BenchmarkPublish(b *testing.B) {
	const topic, window = "bench/topic", 64
	payload := make([]byte, 64)
	start := func(b *testing.B) string {
		return enginetest.Start(b, engine.Options{Loops: 1, Listeners: []engine.Listener{{Address: "127.0.0.1:0", Anonymous: true}}}).Address()
	}
	fail := func(b *testing.B, err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	run := func(name string, publisher func(b *testing.B, address string) (qos0, qos1 func(n int))) {
		for qos, q := range []string{"QoS0", "QoS1"} {
			b.Run(q+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				qos0, qos1 := publisher(b, start(b))
				qos1(1)
				b.ResetTimer()
				if qos == 0 {
					qos0(b.N)
					qos1(1) // behind all the others
				} else {
					qos1(b.N)
				}
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
	run("wheelmq", func(b *testing.B, address string) (func(int), func(int)) {
		ctx := context.Background()
		c, err := client.New(client.Options{Servers: []string{"mqtt://" + address}, Version: client.V311, MaxInflight: window, Logger: slog.New(slog.DiscardHandler)})
		fail(b, err)
		fail(b, c.Connect(ctx))
		b.Cleanup(c.Close)
		return func(n int) {
				for range n {
					_, err := c.Publish(ctx, client.Message{Topic: topic, Payload: payload})
					fail(b, err)
				}
			}, func(n int) {
				tokens := make([]*client.Token, window)
				for i := range n + window {
					if t := tokens[i%window]; t != nil {
						_, err := t.Wait(ctx)
						fail(b, err)
						tokens[i%window] = nil
					}
					if i < n {
						tokens[i%window], err = c.PublishAsync(client.Message{Topic: topic, Payload: payload, QoS: 1})
						fail(b, err)
					}
				}
			}
	})
	run("paho.mqtt.golang", func(b *testing.B, address string) (func(int), func(int)) {
		c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + address).SetClientID("paho"))
		t := c.Connect()
		t.Wait()
		fail(b, t.Error())
		b.Cleanup(func() { c.Disconnect(100) })
		return func(n int) {
				for range n {
					t := c.Publish(topic, 0, false, payload)
					t.Wait()
					fail(b, t.Error())
				}
			}, func(n int) {
				tokens := make([]paho.Token, window)
				for i := range n + window {
					if t := tokens[i%window]; t != nil {
						t.Wait()
						fail(b, t.Error())
						tokens[i%window] = nil
					}
					if i < n {
						tokens[i%window] = c.Publish(topic, 1, false, payload)
					}
				}
			}
	})
	run("paho.golang", func(b *testing.B, address string) (func(int), func(int)) {
		ctx := context.Background()
		conn, err := net.Dial("tcp", address)
		fail(b, err)
		c := golang.NewClient(golang.ClientConfig{Conn: conn})
		_, err = c.Connect(ctx, &golang.Connect{ClientID: "golang", CleanStart: true, KeepAlive: 60})
		fail(b, err)
		b.Cleanup(func() { _ = c.Disconnect(&golang.Disconnect{}) })
		publish := func(n int, qos byte) {
			for range n {
				if _, err := c.Publish(ctx, &golang.Publish{Topic: topic, QoS: qos, Payload: payload}); err != nil {
					b.Error(err)
					return
				}
			}
		}
		return func(n int) { publish(n, 0) }, func(n int) {
			var g sync.WaitGroup
			for i := range window {
				g.Go(func() { publish((n+window-1-i)/window, 1) })
			}
			g.Wait()
		}
	})
}

// BenchmarkReceive receives 64 bytes a message, beside the same two, from a scripted broker that has 64 messages to send at
// once and waits for their acknowledgements at QoS 1.
func BenchmarkReceive(b *testing.B) {
	const topic, burst = "bench/topic", 64
	for qos, q := range []string{"QoS0", "QoS1"} {
		run := func(name string, v codec.Version, subscriber func(b *testing.B, address string, take func())) {
			b.Run(q+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { l.Close() })
				send := make(chan struct{})
				go func() {
					if err := serveBursts(l, v, codec.QoS(qos), topic, burst, send); err != nil {
						b.Error(err)
					}
				}()
				n, done := 0, make(chan struct{})
				subscriber(b, l.Addr().String(), func() {
					if n++; n == b.N {
						close(done)
					}
				})
				b.ResetTimer()
				close(send)
				<-done
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
		run("wheelmq", codec.V311, func(b *testing.B, address string, take func()) {
			c, err := client.New(client.Options{Servers: []string{"mqtt://" + address}, Version: client.V311, NoReconnect: true,
				Handler: func(*client.Message) { take() }})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(c.Close)
			if err := c.Connect(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
		run("paho.mqtt.golang", codec.V311, func(b *testing.B, address string, take func()) {
			o := paho.NewClientOptions().AddBroker("tcp://" + address).SetClientID("paho").SetAutoReconnect(false)
			c := paho.NewClient(o.SetDefaultPublishHandler(func(paho.Client, paho.Message) { take() }))
			b.Cleanup(func() { c.Disconnect(0) })
			if t := c.Connect(); t.Wait() && t.Error() != nil {
				b.Fatal(t.Error())
			}
		})
		run("paho.golang", codec.V5, func(b *testing.B, address string, take func()) {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Fatal(err)
			}
			c := golang.NewClient(golang.ClientConfig{Conn: conn, OnPublishReceived: []func(golang.PublishReceived) (bool, error){
				func(golang.PublishReceived) (bool, error) { take(); return true, nil }}})
			b.Cleanup(func() { conn.Close() })
			if _, err := c.Connect(context.Background(), &golang.Connect{ClientID: "golang", CleanStart: true, KeepAlive: 60}); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// serveBursts is a broker for one client: it sends bursts of messages, from when it is told to until the client is gone.
func serveBursts(l net.Listener, v codec.Version, qos codec.QoS, topic string, burst int, send chan struct{}) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 4096)); err != nil { // CONNECT
		return err
	}
	ack := codec.Connack{}
	if _, err := conn.Write(ack.Append(nil, v)); err != nil {
		return err
	}
	<-send
	var messages, acks []byte
	for i := range burst {
		d := codec.Delivery{QoS: qos}
		if qos > 0 {
			d.PacketID = uint16(i + 1)
			acks = append(acks, 0, 0, 0, 0)
		}
		messages = codec.AppendPublish(messages, v, &d, []byte(topic), make([]byte, 64), nil)
	}
	for {
		if _, err := conn.Write(messages); err != nil {
			return nil // the end of the client
		}
		if _, err := io.ReadFull(conn, acks); err != nil {
			return nil
		}
	}
}
