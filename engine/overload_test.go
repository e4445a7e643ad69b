package engine

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
	"github.com/wheelmq/wheelmq/engine/internal/metrics"
)

// late makes every loop take d to come to what waits for it, once.
func (h *harness) late(d time.Duration) {
	for _, l := range h.b.loops {
		l.begin()
		l.probe()
		l.end()
	}
	h.clock.Advance(d)
	h.run()
}

// On a loop that is late those who have a session come first, and nobody who is
// connected notices.
func TestOverload(t *testing.T) {
	each(t, Options{LoopDelay: 250 * time.Millisecond}, func(t *testing.T, h *harness) {
		for i := range h.envs { // one on each loop, whichever comes next
			h.client(codec.V5, "known"+string(rune('0'+i)), keepFor(1000)).cut()
		}
		sub, pub := hello(h, "sub").subscribed(filter("t", 0)), hello(h, "pub")
		connect := func(v codec.Version, id string, delays ...time.Duration) *peer {
			p := h.dial(v)
			for _, d := range delays {
				h.late(d)
			}
			p.send(connectPacket(v, id, false, keepFor(1000)))
			return p
		}
		const late, busy = 300 * time.Millisecond, `CONNACK sp=0 89 {ReasonString="the broker is busy: come back later"}`
		connect(codec.V5, "early", late).expectConnack(false) // one alone says nothing
		connect(codec.V5, "stranger", late, late).expectEnd(busy)
		connect(codec.V311, "stranger", late, late).expectEnd("CONNACK sp=0 03")
		h.late(late)
		h.late(late)
		if !h.b.overloaded() {
			t.Error("handshakes are not spread out")
		}
		connect(codec.V5, "known0", late, late).expectConnack(true)
		connect(codec.V5, "known0", 4*late, 4*late).expectEnd(busy)
		if pub.send(publish5("t")); len(sub.all()) != 1 {
			t.Error("a connected client is not served")
		}
		if n := limited(h, metrics.Overload); n != 3 {
			t.Errorf("%d counted, want 3", n)
		}
		h.advance(2 * time.Second)
		hello(h, "stranger")
		if h.b.overloaded() {
			t.Error("overloaded without end")
		}
	})
	h := newHarness(t, 1, Options{LoopDelay: -1})
	h.late(time.Hour)
	h.late(time.Hour)
	hello(h, "stranger")
}

// An address is counted from the first byte on, and of those that are too many
// no more stay open than need to be told.
func TestIdleConnectionsCount(t *testing.T) {
	h := newHarness(t, 1, Options{AddressConnections: 2})
	idle := h.dial(codec.V5)
	h.dial(codec.V5)
	var told []*peer
	for range connectionsBeyond {
		p := h.dial(codec.V5)
		if p.gone {
			t.Fatal("closed without a word although few are")
		}
		told = append(told, p)
	}
	if !h.dial(codec.V5).gone {
		t.Error("one more stays open")
	}
	told[0].send(connect5("a"))
	told[0].expectEnd(`CONNACK sp=0 97 {ReasonString="as many connections of this address as allowed"}`)
	told[0].cut()
	idle.cut()
	hello(h, "a")
	for _, p := range told[1:] {
		p.cut()
	}
	if n := h.b.unwanted.Load(); n != 0 {
		t.Errorf("%d are remembered", n)
	}
}

// Where it would take a handshake to say why, who may not come in is closed before.
func TestLimitsBeforeTLS(t *testing.T) {
	a := certtest.New(t, "authority")
	for name, edit := range map[string]func(*Listener){
		"tls":    func(*Listener) {},
		"detect": func(l *Listener) { l.Detect = true },
		"proxy":  func(l *Listener) { l.Proxy = &Proxy{} },
	} {
		t.Run(name, func(t *testing.T) {
			l := Listener{Address: "127.0.0.1:0", Anonymous: true, TLS: serverTLS(a)}
			edit(&l)
			b := startBroker(t, Options{Listeners: []Listener{l}})
			must(t, b.Ban(Ban{Address: netip.MustParsePrefix("192.0.2.0/24")}))
			if l.Proxy == nil {
				must(t, b.Ban(Ban{Address: netip.MustParsePrefix("127.0.0.0/8")}))
			}
			c, err := net.Dial("tcp", b.Addrs()[0].String())
			must(t, err)
			defer c.Close()
			must(t, c.SetDeadline(time.Now().Add(socketPatience)))
			if l.Proxy != nil {
				_, err = c.Write([]byte("PROXY TCP4 192.0.2.7 192.0.2.1 1234 8883\r\n"))
				must(t, err)
			}
			_, _ = c.Write([]byte("\x16\x03\x01\x00\x04\x01\x00\x00\x00")) // a handshake begins
			if n, err := c.Read(make([]byte, 10)); n > 0 || err == nil {
				t.Errorf("got %d bytes, %v; want the connection closed", n, err)
			}
			eventually(t, socketPatience, "it is counted", func() bool { return b.stats().Limited[metrics.Banned] == 1 && b.stats().Refused == 1 })
		})
	}
}

// slowPublisher makes each message of a client cost its loop time.
type slowPublisher struct{}

func (slowPublisher) InterceptPublish(hook.Client, *hook.Publication) hook.Outcome {
	time.Sleep(10 * time.Millisecond)
	return hook.Outcome{}
}

// A loop that those who are connected keep busy turns strangers away, who come
// in when it has caught up.
func TestOverloadOverSockets(t *testing.T) {
	b := startBroker(t, Options{Loops: 1, LoopDelay: 20 * time.Millisecond, Hooks: []any{slowPublisher{}},
		Listeners: []Listener{{Address: "127.0.0.1:0", Anonymous: true}}})
	stop := make(chan struct{})
	var all sync.WaitGroup
	var busy []*socketClient
	for i := range 30 {
		busy = append(busy, connectSocket(t, b, codec.V311, fmt.Sprint("busy", i), true))
	}
	for _, c := range busy {
		all.Go(func() {
			for id := uint16(1); ; id++ {
				select {
				case <-stop:
					return
				default:
				}
				if c.send(publishPacket(codec.V311, "t", "x", 1, max(id, 1))) != nil {
					t.Error("a connected client was thrown out")
					return
				}
				if _, _, err := c.frame(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	try := func() error {
		c, err := tryDial(t, b.Addrs()[0].String(), codec.V5)
		if err == nil {
			defer c.Close()
			_, err = c.connect("stranger", true)
		}
		return err
	}
	eventually(t, socketPatience, "a stranger is turned away", func() bool { return try() != nil })
	close(stop)
	all.Wait()
	eventually(t, socketPatience, "it is counted", func() bool { return b.stats().Limited[metrics.Overload] > 0 })
	eventually(t, socketPatience, "the stranger comes in", func() bool { return try() == nil })
}
