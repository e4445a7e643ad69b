package client_test

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"

	golang "github.com/eclipse/paho.golang/paho"
	paho "github.com/eclipse/paho.mqtt.golang"

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
