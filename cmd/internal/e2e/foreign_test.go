package e2e

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// version is the protocol level of CONNECT.
type version byte

const (
	v31  version = 3
	v311 version = 4
	v5   version = 5
)

func (v version) String() string {
	return map[version]string{v31: "v31", v311: "v311", v5: "v5"}[v]
}

// A foreign is a client library or program at one protocol version.
type foreign struct {
	library   string
	version   version
	subscribe func(t *testing.T, b *broker, v version, s subscription) *subscriber // returns after SUBACK
	publish   func(t *testing.T, b *broker, v version, p publication)              // returns after the last acknowledgement

	leavesWithWill bool // ends with DISCONNECT 0x04, which asks for the will
}

func (f foreign) String() string { return f.library + "-" + f.version.String() }

// clients are all that take part. Hardly any test needs to know more about them.
var clients = []foreign{
	{library: "mosquitto", version: v31, subscribe: mosquittoSubscribe, publish: mosquittoPublish},
	{library: "mosquitto", version: v311, subscribe: mosquittoSubscribe, publish: mosquittoPublish},
	{library: "mosquitto", version: v5, subscribe: mosquittoSubscribe, publish: mosquittoPublish, leavesWithWill: true},
	{library: "paho.mqtt.golang", version: v31, subscribe: pahoSubscribe, publish: pahoPublish},
	{library: "paho.mqtt.golang", version: v311, subscribe: pahoSubscribe, publish: pahoPublish},
	{library: "paho.golang", version: v5, subscribe: paho5Subscribe, publish: paho5Publish},
	{library: "mqttjs", version: v31, subscribe: mqttjsSubscribe, publish: mqttjsPublish},
	{library: "mqttjs", version: v311, subscribe: mqttjsSubscribe, publish: mqttjsPublish},
	{library: "mqttjs", version: v5, subscribe: mqttjsSubscribe, publish: mqttjsPublish},
}

// clientsOf are the clients that speak v.
func clientsOf(v version) []foreign {
	var some []foreign
	for _, c := range clients {
		if c.version == v {
			some = append(some, c)
		}
	}
	return some
}

// A publication is one message on its way to the broker.
type publication struct {
	topic    string
	payload  []byte
	qos      byte
	retained bool
}

// A subscription is one connection with one filter.
type subscription struct {
	clientID string // "" for a new one
	filter   string
	qos      byte
	keep     bool         // the session outlives the connection
	will     *publication // nil: none
}

// sessionExpiry is what subscribers with keep ask for in v5, in seconds.
const sessionExpiry = 600

var lastClientID atomic.Uint32

// newClientID returns an identifier that MQTT 3.1 allows: 1 to 23 characters.
func newClientID() string { return fmt.Sprintf("e2e-%d", lastClientID.Add(1)) }

func (s subscription) withClientID() subscription {
	if s.clientID == "" {
		s.clientID = newClientID()
	}
	return s
}

// A delivery is one message as a subscriber got it.
type delivery struct {
	topic    string
	payload  []byte
	qos      byte
	retained bool
}

func (d delivery) String() string {
	text := fmt.Sprintf("%s qos%d", d.topic, d.qos)
	if d.retained {
		text += " retained"
	}
	if len(d.payload) <= 64 {
		text += fmt.Sprintf(" %q", d.payload)
	}
	return text
}

// deliveryQueue is how many deliveries a subscriber holds for its test; no test sends as many.
const deliveryQueue = 4096

// A subscriber is a foreign client that is connected and subscribed.
type subscriber struct {
	name       string
	received   chan delivery
	disconnect func() // sends DISCONNECT and waits until the connection is gone
	abort      func() // closes the network connection without DISCONNECT
}

// next returns the next delivery, or fails.
func (s *subscriber) next(t *testing.T) delivery {
	t.Helper()
	select {
	case d := <-s.received:
		return d
	case <-time.After(patience):
		t.Fatalf("%s: no message within %v", s.name, patience)
		return delivery{}
	}
}

// untilEnd returns what arrives before the message whose topic is end.
func (s *subscriber) untilEnd(t *testing.T, end string) []delivery {
	t.Helper()
	var got []delivery
	for {
		d := s.next(t)
		if d.topic == end {
			return got
		}
		got = append(got, d)
	}
}

func (f foreign) subscribes(t *testing.T, b *broker, s subscription) *subscriber {
	t.Helper()
	subscriber := f.subscribe(t, b, f.version, s.withClientID())
	subscriber.name = f.String()
	return subscriber
}

func (f foreign) publishes(t *testing.T, b *broker, p publication) {
	t.Helper()
	f.publish(t, b, f.version, p)
}
