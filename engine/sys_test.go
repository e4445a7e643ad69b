package engine

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/message"
)

// sysValue is the retained value under $SYS/broker/.
func (h *harness) sysValue(name string) string {
	h.t.Helper()
	value := ""
	if !h.b.retained.index.Get("$SYS/broker/"+name, func(m *message.Message) { value = string(m.Payload) }) {
		h.t.Errorf("there is no $SYS/broker/%s", name)
	}
	return value
}

// TestSysNames holds the names to those that exporters and dashboards read.
func TestSysNames(t *testing.T) {
	h := newHarness(t, 2, Options{SysInterval: time.Second, Version: "1.2.3"})
	h.advance(3 * time.Second)
	p := h.client(codec.V5, "p").subscribed(filter("$SYS/#", 0))
	got := make(map[string]bool)
	for _, s := range p.all() {
		var name string
		if n, _ := fmt.Sscanf(s, "PUBLISH q0 r1 d0 %q", &name); n != 1 {
			t.Errorf("got %s", s)
		}
		got[strings.TrimPrefix(name, "$SYS/broker/")] = true
	}
	f := func(pattern string) { // x/{a,b}/y stands for x/a/y and x/b/y
		t.Helper()
		for _, name := range expandBraces(pattern) {
			if !got[name] {
				t.Errorf("there is no $SYS/broker/%s", name)
			}
			delete(got, name)
		}
	}
	f("{version,uptime}")
	f("clients/{connected,active,disconnected,inactive,expired,maximum,total}")
	f("bytes/{received,sent}")
	f("messages/{received,sent,stored}")
	f("publish/messages/{received,sent,dropped}")
	f("publish/bytes/{received,sent}")
	f("store/messages/{count,bytes}")
	f("subscriptions/count")
	f("shared_subscriptions/count")
	f("retained messages/count")
	f("heap/{current,maximum}")
	f("connections/socket/count")
	f("load/{messages/received,messages/sent,publish/received,publish/sent,publish/dropped}/{1min,5min,15min}")
	f("load/{bytes/received,bytes/sent,sockets,connections}/{1min,5min,15min}")
	f("mqtt/{connect,connack,publish,puback,pubrec,pubrel,pubcomp,subscribe,suback}/{received,sent,dropped}")
	f("mqtt/{unsubscribe,unsuback,pingreq,pingresp,disconnect,auth}/{received,sent,dropped}")
	for name := range got {
		if !strings.HasPrefix(name, "wheelmq/") {
			t.Errorf("$SYS/broker/%s: our own names are under wheelmq/", name)
		}
	}
	if v := h.sysValue("version"); v != "wheelmq 1.2.3" {
		t.Errorf("version %q", v)
	}
}

func expandBraces(s string) []string {
	head, rest, ok := strings.Cut(s, "{")
	if !ok {
		return []string{s}
	}
	list, tail, _ := strings.Cut(rest, "}")
	var out []string
	for _, mid := range strings.Split(list, ",") {
		for _, end := range expandBraces(tail) {
			out = append(out, head+mid+end)
		}
	}
	return out
}

func TestSysFigures(t *testing.T) {
	each(t, Options{SysInterval: time.Second}, func(t *testing.T, h *harness) {
		received := 0
		send := func(p *peer, b []byte) {
			received += len(b)
			p.send(b)
		}
		connect := func(id string, edit ...func(*codec.Connect)) *peer {
			p := h.dial(codec.V5)
			send(p, connectPacket(codec.V5, id, true, edit...))
			return p
		}
		a, b, c, pub := connect("a"), connect("b", keepFor(60)), connect("c", keepFor(1)), connect("pub")
		send(a, subscribePacket(codec.V5, 1, filter("t", 1), filter("$share/g/t", 1)))
		send(b, subscribePacket(codec.V5, 1, filter("t", 1)))
		b.cut()
		c.cut()
		for id := range uint16(3) {
			send(pub, publishPacket(codec.V5, "t", "12345", 1, id+1))
		}
		send(pub, publishPacket(codec.V5, "t", "12345", 0, 0))
		send(pub, publishPacket(codec.V5, "r", "xy", 0, 0, retain))
		h.advance(3 * time.Second)
		h.advance(tick) // the last figures of the other loops
		h.advance(time.Second)
		sent := len(a.in) + len(b.in) + len(c.in) + len(pub.in)
		own := int(h.b.retained.own.Load())
		f := func(name string, want any) {
			t.Helper()
			if got := h.sysValue(name); got != fmt.Sprint(want) {
				t.Errorf("%s: %s, want %v", name, got, want)
			}
		}
		f("uptime", "4 seconds")
		f("clients/connected", 2)
		f("clients/active", 2)
		f("clients/disconnected", 1)
		f("clients/inactive", 1)
		f("clients/expired", 1)
		f("clients/total", 3)
		f("clients/maximum", 2)
		f("connections/socket/count", 2)
		f("bytes/received", received)
		f("bytes/sent", sent)
		f("messages/received", 4+2+5) // CONNECT, SUBSCRIBE, PUBLISH
		f("messages/sent", 4+2+3+8)   // CONNACK, SUBACK, PUBACK, PUBLISH
		f("publish/messages/received", 5)
		f("publish/messages/sent", 8)
		f("publish/messages/dropped", 1) // QoS 0 for b
		f("publish/bytes/received", 4*5+2)
		f("publish/bytes/sent", 8*5)
		f("messages/stored", 1+3)
		f("store/messages/count", 1+3)
		f("store/messages/bytes", (1+2+64)+3*(1+5+64))
		f("subscriptions/count", 2)
		f("shared_subscriptions/count", 1)
		f("retained messages/count", 1+own)
		f("mqtt/connect/received", 4)
		f("mqtt/connack/sent", 4)
		f("mqtt/subscribe/received", 2)
		f("mqtt/suback/sent", 2)
		f("mqtt/publish/received", 5)
		f("mqtt/publish/sent", 8)
		f("mqtt/publish/dropped", 1)
		f("mqtt/puback/sent", 3)
		f("mqtt/pingreq/received", 0)
		f("wheelmq/dropped/qos0_offline", 1)
		if n, err := strconv.Atoi(h.sysValue("heap/current")); err != nil || n <= 0 {
			t.Errorf("heap/current: %v, %v", n, err)
		}
	})
}

// The most clients at once count also between two publications of the figure.
func TestSysMaximumIsNotMissed(t *testing.T) {
	h := newHarness(t, 2, Options{SysInterval: time.Minute})
	h.advance(time.Second)
	a, b, c := h.client(codec.V5, "a"), h.client(codec.V5, "b"), h.client(codec.V5, "c")
	h.advance(2 * tick)
	a.cut()
	b.cut()
	h.advance(time.Minute)
	c.expect()
	if got := h.sysValue("clients/maximum") + h.sysValue("clients/connected"); got != "31" {
		t.Errorf("maximum and connected %s, want 31", got)
	}
}

// TestSysLoads gives the averages a steady flow for twenty minutes.
func TestSysLoads(t *testing.T) {
	h := newHarness(t, 1, Options{SysInterval: 10 * time.Second})
	pub := h.client(codec.V5, "pub")
	b := publishPacket(codec.V5, "t", "x", 0, 0)
	for range 20 * 60 / 10 {
		for range 100 {
			pub.post(b)
		}
		h.advance(10 * time.Second)
	}
	f := func(name string, want float64) {
		t.Helper()
		got, err := strconv.ParseFloat(h.sysValue(name), 64)
		if err != nil || got < want*0.97 || got > want*1.03 {
			t.Errorf("%s: %v, want about %v", name, got, want)
		}
	}
	f("load/publish/received/1min", 600)
	f("load/publish/received/5min", 600*(1-0.0183))  // 1-e^-(20/5)
	f("load/publish/received/15min", 600*(1-0.2636)) // 1-e^-(20/15)
	f("load/bytes/received/1min", 600*float64(len(b)))
	f("load/publish/dropped/1min", 0)
}

func TestSysIntervalIsKept(t *testing.T) {
	h := newHarness(t, 1, Options{SysInterval: 10 * time.Second})
	watch := h.client(codec.V5, "watch").subscribed(filter("$SYS/broker/uptime", 0), filter("$SYS/broker/version", 0))
	h.clock.Advance(3 * time.Second) // a loop that is late
	h.envs[0].loop.Ticked(0)
	h.clock.Advance(9 * time.Second)
	h.envs[0].loop.Ticked(0)
	h.run()
	watch.expectServed("wheelmq wheelmq 3 seconds 12 seconds")
	h.advance(7 * time.Second)
	watch.expectServed("")
	h.advance(2 * time.Second)
	watch.expectServed("20 seconds") // the grid stays, what did not change is not repeated
}

func TestSysIsOutsideTheBoundsOfClients(t *testing.T) {
	h := newHarness(t, 1, Options{SysInterval: time.Second, MaxRetainedMessages: 1, MaxRetainedBytes: 200})
	h.advance(time.Second)
	pub := h.client(codec.V5, "pub")
	pub.send(publishPacket(codec.V5, "a", "1", 1, 1, retain), publishPacket(codec.V5, "b", "1", 1, 2, retain))
	if got := codesOf(pub); got != "PUBACK 1 10,PUBACK 2 97" {
		t.Errorf("got %s", got)
	}
	h.advance(2 * time.Second)
	if v := h.sysValue("uptime"); v != "3 seconds" {
		t.Errorf("uptime %q", v)
	}
}

func TestSysCanBeOff(t *testing.T) {
	h := newHarness(t, 1, Options{SysInterval: -1})
	h.advance(time.Minute)
	if n := h.b.retained.index.Len(); n != 0 {
		t.Errorf("%d topics", n)
	}
}
