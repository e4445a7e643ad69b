package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/enginetest"
	"github.com/wheelmq/wheelmq/engine/store"
)

// TestFullStore: with little room what is new and must survive is refused, and
// what is kept goes to its clients.
func TestFullStore(t *testing.T) {
	f := &store.Failing{Store: store.NewMemory()}
	b := start(t, f)
	s := b.Connect(t, "s", codec.V5, enginetest.Resume(1000))
	s.Subscribe("kept", 1)
	p := b.Connect(t, "p", codec.V5)
	s.Disconnect()
	awaitAbsent(t, b, "s")
	p.Publish("kept", "x", 1)
	p.Publish("retained", "r", 0, enginetest.Retain)

	f.Fill(true)
	live := b.Connect(t, "live", codec.V5)
	live.Subscribe("live", 1)
	for _, one := range []struct {
		topic, payload string
		qos            codec.QoS
		edit           []func(*codec.Delivery)
		want           codec.ReasonCode
	}{
		{"kept", "y", 1, nil, codec.QuotaExceeded},
		{"kept", "y", 2, nil, codec.QuotaExceeded},
		{"live", "z", 1, nil, codec.Success},
		{"retained", "other", 1, []func(*codec.Delivery){enginetest.Retain}, codec.QuotaExceeded},
		{"retained", "", 1, []func(*codec.Delivery){enginetest.Retain}, codec.NoMatchingSubscribers},
	} {
		if code := p.Publish(one.topic, one.payload, one.qos, one.edit...); code != one.want {
			t.Errorf("%q to %s at QoS %d: %v, want %v", one.payload, one.topic, one.qos, code, one.want)
		}
	}
	live.ExpectPublish("live", "z")
	stranger := b.Dial(t, codec.V5)
	c := codec.Connect{Version: codec.V5, ClientID: []byte("stranger")}
	enginetest.Resume(1000)(&c)
	stranger.Send(c.Append(nil))
	if ack := stranger.ExpectConnack(); ack.Code != codec.QuotaExceeded {
		t.Errorf("a new session that is to be kept: %v", ack.Code)
	}
	s = b.Connect(t, "s", codec.V5, enginetest.Resume(1000))
	s.Ack(codec.PUBACK, s.ExpectPublish("kept", "x").PacketID)
	more := codec.Subscribe{PacketID: 9, Filters: []codec.Subscription{{Filter: []byte("more"), QoS: 1}}}
	s.Send(more.Append(nil, codec.V5))
	var ack codec.Suback
	if h, body, err := s.Packet(); err != nil || h.Type != codec.SUBACK || codec.ParseSuback(&ack, body, codec.V5) != nil || ack.Codes[0] != codec.QuotaExceeded {
		t.Errorf("a new subscription that is to be kept: %v %v, %v", h.Type, ack.Codes, err)
	}
	s.Subscribe("kept", 1) // which is there

	f.Fill(false)
	s.Subscribe("more", 1)
	if code := p.Publish("more", "y", 1); code.Failure() {
		t.Errorf("with room: %v", code)
	}
	s.ExpectPublish("more", "y")
}

// TestLongQueueSlowStore: a client with much waiting is sent no more than may wait
// for the store, and all of it in the end, on the connection that it has.
func TestLongQueueSlowStore(t *testing.T) {
	const n, size = 60, 100 << 10
	h := &heldStore{Store: store.NewMemory()}
	b := enginetest.Start(t, engine.Options{Loops: 2, Store: h, OutboundBytes: 64 << 10, MaximumPacketSize: 128 << 10, MaxQueuedBytes: engine.Unlimited})
	s := b.Connect(t, "s", codec.V5, enginetest.Resume(1000))
	s.Subscribe("kept", 1)
	s.Disconnect()
	awaitAbsent(t, b, "s")
	p := b.Connect(t, "p", codec.V5)
	for i := range n {
		if code := p.Publish("kept", fmt.Sprintf("%3d%s", i, strings.Repeat("x", size)), 1); code.Failure() {
			t.Fatal(code)
		}
	}
	s = b.Connect(t, "s", codec.V5, enginetest.Resume(1000))
	for i := range n {
		if i%10 == 3 {
			h.hold(true)
			time.AfterFunc(20*time.Millisecond, func() { h.hold(false) }) // in between it sends what it may
		}
		m := s.ExpectPublish("kept", fmt.Sprintf("%3d%s", i, strings.Repeat("x", size)))
		s.Ack(codec.PUBACK, m.PacketID)
	}
}
