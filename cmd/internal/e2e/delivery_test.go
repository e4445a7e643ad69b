package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/eclipse/paho.golang/paho"
)

// TestDelivery is the plainest promise: one client subscribes, another publishes, the message arrives, once. For every
// client and version as subscriber and as publisher, and every QoS on either side.
func TestDelivery(t *testing.T) {
	t.Parallel()
	t.Run("one loop", func(t *testing.T) { testDelivery(t, startBroker(t, "--loops", "1")) })
	if onlyWheelmq(t) {
		t.Run("two loops", func(t *testing.T) { testDelivery(t, startBroker(t, "--loops", "2")) })
	}
}

const endTopic = "end"

func testDelivery(t *testing.T, b *broker) {
	type listener struct {
		*subscriber
		qos byte
	}
	var listeners []listener
	for _, c := range clients {
		for qos := range byte(3) {
			listeners = append(listeners, listener{c.subscribes(t, b, subscription{filter: "#", qos: qos}), qos})
		}
	}
	var publications []publication
	t.Run("publish", func(t *testing.T) {
		for _, c := range clients {
			for qos := range byte(3) {
				p := publication{topic: fmt.Sprintf("from/%s/qos%d", c, qos), payload: []byte(c.String()), qos: qos}
				publications = append(publications, p)
				t.Run(p.topic, func(t *testing.T) {
					t.Parallel()
					c.publishes(t, b, p)
				})
			}
		}
	})
	if t.Failed() {
		return
	}
	got := make([]map[string]int, len(listeners)) // delivery -> how often
	for i, l := range listeners {
		got[i] = make(map[string]int)
		for len(got[i]) < len(publications) {
			got[i][l.next(t).String()]++
		}
	}
	publishEnd(t, b)
	for i, l := range listeners {
		for _, d := range l.untilEnd(t, endTopic) { // whatever comes beyond what was wanted
			got[i][d.String()]++
		}
		checkDeliveries(t, fmt.Sprintf("%s, subscribed with QoS %d", l.name, l.qos), got[i], publications, l.qos)
		l.disconnect()
	}
}

// checkDeliveries wants each publication once, at the lower of both QoS.
func checkDeliveries(t *testing.T, who string, got map[string]int, publications []publication, qos byte) {
	t.Helper()
	for _, p := range publications {
		want := delivery{topic: p.topic, payload: p.payload, qos: min(p.qos, qos)}.String()
		if got[want] != 1 {
			t.Errorf("%s: %s came %d times, want once", who, want, got[want])
		}
		delete(got, want)
	}
	for d, n := range got {
		t.Errorf("%s: %s came %d times, want never", who, d, n)
	}
}

// publishEnd publishes the message that [subscriber.untilEnd] waits for.
func publishEnd(t *testing.T, b *broker) {
	t.Helper()
	paho5Publish(t, b, v5, publication{topic: endTopic, payload: []byte("end"), qos: 1})
}

// TestOrder publishes faster than one message a turn: what one publisher sends on one topic arrives in order, whatever its QoS.
func TestOrder(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	const messages = 200
	for qos := range byte(3) {
		var listeners []*subscriber
		for _, c := range clients {
			listeners = append(listeners, c.subscribes(t, b, subscription{filter: "order", qos: 2}))
		}
		publisher := paho5Connect(t, b, subscription{clientID: newClientID()})
		for i := range messages {
			publisher.mustPublish(t, publication{topic: "order", payload: fmt.Append(nil, i), qos: qos})
		}
		for _, l := range listeners {
			for i := range messages {
				if d := l.next(t); string(d.payload) != fmt.Sprint(i) || d.qos != qos {
					t.Fatalf("%s, QoS %d: got %v, want message %d", l.name, qos, d, i)
				}
			}
			l.disconnect()
		}
		publisher.mustDisconnect(t)
	}
}

// largePayload with the header and the topic below fits into the largest packet that the broker takes by default, 1 MiB.
const largePayload = 1<<20 - 64

func TestLargePayload(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	payload := make([]byte, largePayload)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(payload) // never fails
	var listeners []*subscriber
	for _, c := range clients {
		listeners = append(listeners, c.subscribes(t, b, subscription{filter: "large", qos: 1}))
	}
	for _, c := range clients {
		c.publishes(t, b, publication{topic: "large", payload: payload, qos: 1})
		for _, l := range listeners {
			if d := l.next(t); d.topic != "large" || !bytes.Equal(d.payload, payload) {
				t.Errorf("from %s to %s: %d bytes arrived and differ from what was sent", c, l.name, len(d.payload))
			}
		}
	}
}

func TestEmptyPayload(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	for _, c := range clients {
		l := c.subscribes(t, b, subscription{filter: "empty/+", qos: 1})
		c.publishes(t, b, publication{topic: "empty/" + c.library, qos: 1})
		if d := l.next(t); d.topic != "empty/"+c.library || len(d.payload) != 0 {
			t.Errorf("%s: got %v, want an empty message", c, d)
		}
		l.disconnect()
	}
}

func TestSharedSubscription(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	const messages = 30
	var members []*subscriber
	for _, c := range clientsOf(v5) {
		members = append(members, c.subscribes(t, b, subscription{filter: "$share/group/jobs/#", qos: 1}))
	}
	alone := clients[0].subscribes(t, b, subscription{filter: "jobs/#", qos: 1})
	publisher := paho5Connect(t, b, subscription{clientID: newClientID()})
	for i := range messages {
		publisher.mustPublish(t, publication{topic: "jobs/job", payload: fmt.Appendf(nil, "job %d", i), qos: 1})
	}
	publisher.mustDisconnect(t)
	for i := range messages {
		if d := alone.next(t); string(d.payload) != fmt.Sprintf("job %d", i) {
			t.Errorf("subscriber beside the group: got %v, want job %d", d, i)
		}
	}
	together := make(chan delivery, messages)
	for _, m := range members {
		go m.forward(t, together)
	}
	group := &subscriber{name: "the group", received: together}
	seen := make(map[string]bool)
	for range messages {
		d := group.next(t)
		if seen[string(d.payload)] {
			t.Errorf("%v came to the group twice", d)
		}
		seen[string(d.payload)] = true
	}
	for _, m := range members {
		m.disconnect()
	}
	select {
	case d := <-together:
		t.Errorf("%v came to the group after all %d messages had", d, messages)
	default:
	}
}

// forward passes deliveries on until the test ends.
func (s *subscriber) forward(t *testing.T, to chan<- delivery) {
	for {
		select {
		case d := <-s.received:
			select {
			case to <- d:
			case <-t.Context().Done():
				return
			}
		case <-t.Context().Done():
			return
		}
	}
}

// TestProperties follows MQTT 5.0 properties from one foreign client through the broker to another.
func TestProperties(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	c := paho5Connect(t, b, subscription{clientID: newClientID()})
	c.mustSubscribe(t, paho.SubscribeOptions{Topic: "properties", QoS: 1})
	mosquittoPublishWith(t, b, v5, publication{topic: "properties", payload: []byte("x"), qos: 1},
		"-D", "publish", "content-type", "text/plain", "-D", "publish", "response-topic", "answers",
		"-D", "publish", "correlation-data", "17", "-D", "publish", "payload-format-indicator", "1",
		"-D", "publish", "message-expiry-interval", "100",
		"-D", "publish", "user-property", "a", "1", "-D", "publish", "user-property", "a", "2")
	ctx, cancel := patient()
	defer cancel()
	var p *paho.PublishProperties
	select {
	case packet := <-c.packets:
		p = packet.Properties
	case <-ctx.Done():
		t.Fatal("no message")
	}
	if p.ContentType != "text/plain" || p.ResponseTopic != "answers" || string(p.CorrelationData) != "17" ||
		p.PayloadFormat == nil || *p.PayloadFormat != 1 {
		t.Errorf("properties changed on their way: %+v", p)
	}
	if p.MessageExpiry == nil || *p.MessageExpiry > 100 || *p.MessageExpiry < 100-uint32(patience.Seconds()) {
		t.Errorf("message expiry %v, want 100 less the time in the broker", p.MessageExpiry)
	}
	if want := (paho.UserProperties{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}}); fmt.Sprint(p.User) != fmt.Sprint(want) {
		t.Errorf("user properties %v, want %v", p.User, want)
	}
}
