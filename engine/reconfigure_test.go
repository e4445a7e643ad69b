package engine_test

import (
	"slices"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/enginetest"
)

// TestReconfigure: bounds count at once, for sessions that are there too; what
// clients were told stays and is named.
func TestReconfigure(t *testing.T) {
	o := engine.Options{Loops: 2, MaxQueuedMessages: 100}
	b := enginetest.Start(t, o)
	s := b.Connect(t, "s", codec.V311, enginetest.Resume(0))
	s.Subscribe("t", 1)
	s.Disconnect()
	awaitAbsent(t, b, "s")
	if fixed, err := b.Reconfigure(engine.Options{Loops: 2, MaxQueuedMessages: -7}); err == nil {
		t.Errorf("taken, but for %v", fixed)
	}
	if fixed, err := b.Reconfigure(o); err != nil || len(fixed) > 0 {
		t.Errorf("the same again: %v, %v", fixed, err)
	}
	o.Loops, o.ReceiveMaximum, o.MaxQueuedMessages, o.MaxSubscriptions, o.KeepAliveMaximum = 3, 7, 2, 1, 9*time.Second
	fixed, err := b.Reconfigure(o)
	if want := []string{"Loops", "ReceiveMaximum"}; err != nil || !slices.Equal(fixed, want) {
		t.Errorf("fixed %v, %v; want %v", fixed, err, want)
	}
	p := b.Dial(t, codec.V5)
	connect := codec.Connect{Version: codec.V5, ClientID: []byte("p"), CleanStart: true, KeepAlive: 60}
	p.Send(connect.Append(nil))
	ack := p.ExpectConnack()
	if v, _ := ack.Properties.Uint(codec.ServerKeepAlive); v != 9 {
		t.Errorf("Server Keep Alive %d, want 9", v)
	}
	for range 5 {
		p.Publish("t", "x", 1)
	}
	session, _, _, err := b.Session(t.Context(), "s")
	if err != nil || session.QueuedMessages != 2 {
		t.Errorf("%d messages wait, %v; want 2", session.QueuedMessages, err)
	}
	sub := codec.Subscribe{PacketID: 9, Filters: []codec.Subscription{{Filter: []byte("a")}, {Filter: []byte("b")}}}
	p.Send(sub.Append(nil, codec.V5))
	h, body, err := p.Packet()
	if codes := body[len(body)-2:]; err != nil || h.Type != codec.SUBACK || codes[0] != 0 || codes[1] != byte(codec.QuotaExceeded) {
		t.Errorf("SUBACK %v, %v with room for one", codes, err)
	}
}

func TestPing(t *testing.T) {
	b := enginetest.Start(t, engine.Options{Loops: 2})
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Ping(t.Context()); err == nil {
		t.Error("a broker that has stopped answers")
	}
}
