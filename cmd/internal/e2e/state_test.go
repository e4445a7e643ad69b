package e2e

import (
	"fmt"
	"testing"
)

func TestRetained(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	want := make(map[string]bool)
	for i, c := range clients {
		p := publication{topic: "kept/" + c.String(), payload: []byte(c.String()), qos: byte(i % 3), retained: true}
		c.publishes(t, b, p)
		want[delivery{topic: p.topic, payload: p.payload, qos: min(p.qos, 1), retained: true}.String()] = true
	}
	for _, c := range clients {
		l := c.subscribes(t, b, subscription{filter: "kept/#", qos: 1})
		got := make(map[string]bool)
		for range want {
			d := l.next(t)
			if got[d.String()] || !want[d.String()] {
				t.Errorf("%s: unexpected or repeated %v", c, d)
			}
			got[d.String()] = true
		}
		l.disconnect()
	}
	live := clients[0].subscribes(t, b, subscription{filter: "kept/#", qos: 1})
	for range want {
		live.next(t)
	}
	for _, c := range clients { // an empty payload removes what is kept
		c.publishes(t, b, publication{topic: "kept/" + c.String(), qos: 1, retained: true})
		if d := live.next(t); d.retained || len(d.payload) != 0 {
			t.Errorf("a subscriber that was there got %v from %s, want it empty and not retained", d, c)
		}
	}
	for _, c := range clients {
		l := c.subscribes(t, b, subscription{filter: "#", qos: 1})
		publishEnd(t, b)
		if rest := l.untilEnd(t, endTopic); len(rest) > 0 {
			t.Errorf("%s: got %v after everything was removed", c, rest)
		}
		l.disconnect()
	}
}

func TestWill(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	watcher := clients[0].subscribes(t, b, subscription{filter: "#", qos: 2})
	for _, c := range clients {
		for qos := range byte(3) {
			will := publication{topic: fmt.Sprintf("gone/%s/%d", c, qos), payload: []byte("lost"), qos: qos}
			want := delivery{topic: will.topic, payload: will.payload, qos: qos}.String()
			expect := func(after string) {
				t.Helper()
				if got := watcher.next(t).String(); got != want {
					t.Fatalf("%s: after %s got %s, want %s", c, after, got, want)
				}
			}
			c.subscribes(t, b, subscription{filter: "other", will: &will}).disconnect()
			if c.leavesWithWill {
				expect("DISCONNECT with will")
			}
			publishEnd(t, b)
			if got := watcher.untilEnd(t, endTopic); len(got) > 0 {
				t.Errorf("%s: after DISCONNECT got %v, want nothing more", c, got)
			}
			c.subscribes(t, b, subscription{filter: "other", will: &will}).abort()
			expect("a lost connection")
		}
	}
}

func TestRetainedWill(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	for _, c := range clients {
		watcher := c.subscribes(t, b, subscription{filter: "status/" + c.String(), qos: 1})
		will := publication{topic: "status/" + c.String(), payload: []byte("offline"), qos: 1, retained: true}
		c.subscribes(t, b, subscription{filter: "other", will: &will}).abort()
		if d := watcher.next(t); d.retained || string(d.payload) != "offline" {
			t.Errorf("%s: got %v, want the will, not retained", c, d)
		}
		late := c.subscribes(t, b, subscription{filter: "status/" + c.String(), qos: 1})
		if d := late.next(t); !d.retained || string(d.payload) != "offline" {
			t.Errorf("%s: a later subscriber got %v, want the will, retained", c, d)
		}
		watcher.disconnect()
		late.disconnect()
	}
}

// TestSession leaves messages for a client that is away, after DISCONNECT and after a lost connection.
func TestSession(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	for _, c := range clients {
		s := subscription{clientID: newClientID(), filter: "session/" + c.String(), qos: 2, keep: true}
		leave := []func(*subscriber){
			func(l *subscriber) { l.disconnect() },
			func(l *subscriber) { l.abort() },
		}
		for _, gone := range leave {
			gone(c.subscribes(t, b, s))
			publisher := paho5Connect(t, b, subscription{clientID: newClientID()})
			const messages = 20
			for i := range messages {
				publisher.mustPublish(t, publication{topic: s.filter, payload: fmt.Append(nil, i), qos: byte(1 + i%2)})
			}
			publisher.mustDisconnect(t)
			back := c.subscribes(t, b, s)
			next := [3]int{1: 0, 2: 1} // by QoS: a client hands a QoS 2 message out when PUBREL has come, QoS 1 may overtake it
			for range messages {
				d := back.next(t)
				if string(d.payload) != fmt.Sprint(next[d.qos]) {
					t.Fatalf("%s: got %v, want message %d", c, d, next[d.qos])
				}
				next[d.qos] += 2
			}
			paho5Publish(t, b, v5, publication{topic: s.filter, payload: []byte("end"), qos: 1})
			if d := back.next(t); string(d.payload) != "end" {
				t.Errorf("%s: got %v after everything that was queued", c, d)
			}
			back.disconnect()
		}
	}
}
