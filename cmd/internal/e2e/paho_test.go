package e2e

import (
	"io"
	"log"
	"net"
	"net/url"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// pahoOptions are the options of Eclipse paho.mqtt.golang, which speaks 3.1 and 3.1.1.
func pahoOptions(b *broker, v version, clientID string) *mqtt.ClientOptions {
	return mqtt.NewClientOptions().AddBroker("tcp://" + b.address).SetClientID(clientID).SetProtocolVersion(uint(v)).
		SetAutoReconnect(false).SetConnectTimeout(patience).SetOrderMatters(true)
}

func awaitToken(t *testing.T, what string, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatalf("paho.mqtt.golang: %s took more than %v", what, patience)
	}
	if err := token.Error(); err != nil {
		t.Fatalf("paho.mqtt.golang: %s: %v", what, err)
	}
}

func pahoSubscribe(t *testing.T, b *broker, v version, s subscription) *subscriber {
	t.Helper()
	sub := &subscriber{received: make(chan delivery, deliveryQueue)}
	deliver := func(_ mqtt.Client, m mqtt.Message) {
		sub.received <- delivery{topic: m.Topic(), payload: m.Payload(), qos: m.Qos(), retained: m.Retained()}
	}
	var conn net.Conn
	options := pahoOptions(b, v, s.clientID).SetCleanSession(!s.keep).
		SetDefaultPublishHandler(deliver). // what is queued may come before Subscribe has named a handler
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (c net.Conn, err error) {
			conn, err = net.DialTimeout("tcp", b.address, patience)
			return conn, err
		})
	if w := s.will; w != nil {
		options.SetBinaryWill(w.topic, w.payload, w.qos, w.retained)
	}
	client := mqtt.NewClient(options)
	awaitToken(t, "CONNECT", client.Connect())
	subscribe := client.Subscribe(s.filter, s.qos, deliver)
	awaitToken(t, "SUBSCRIBE", subscribe)
	if granted := subscribe.(*mqtt.SubscribeToken).Result()[s.filter]; granted > 2 {
		t.Fatalf("paho.mqtt.golang: SUBSCRIBE was answered with 0x%02x", granted)
	}
	sub.abort = func() { _ = conn.Close() }
	sub.disconnect = func() { client.Disconnect(uint(time.Second / time.Millisecond)) }
	t.Cleanup(sub.abort)
	return sub
}

func pahoPublish(t *testing.T, b *broker, v version, p publication) {
	t.Helper()
	client := mqtt.NewClient(pahoOptions(b, v, newClientID()))
	awaitToken(t, "CONNECT", client.Connect())
	awaitToken(t, "PUBLISH", client.Publish(p.topic, p.qos, p.retained, p.payload))
	client.Disconnect(uint(100))
}

func init() {
	// Aborted connections are part of the tests; the library logs each of them.
	silent := log.New(io.Discard, "", 0)
	mqtt.ERROR, mqtt.CRITICAL, mqtt.WARN = silent, silent, silent
}
