package enginetest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/enginetest"
)

func TestConversation(t *testing.T) {
	for _, v := range []codec.Version{enginetest.V31, enginetest.V311, enginetest.V5} {
		b := enginetest.Start(t, engine.Options{Loops: 2})
		sub := b.Connect(t, "sub", v, enginetest.Resume(60))
		sub.Subscribe("house/#", 2)
		pub := b.Connect(t, "pub", v, enginetest.Will("house/pub", "gone", 0), enginetest.Login("ada", "x"))
		for qos := codec.QoS(0); qos <= 2; qos++ {
			if code := pub.Publish("house/door", "open", qos); code.Failure() {
				t.Errorf("QoS %d: %v", qos, code)
			}
			p := sub.ExpectPublish("house/door", "open")
			switch p.QoS {
			case 1:
				sub.Ack(codec.PUBACK, p.PacketID)
			case 2:
				sub.Ack(codec.PUBREC, p.PacketID)
				sub.ExpectAck(codec.PUBREL, p.PacketID)
				sub.Ack(codec.PUBCOMP, p.PacketID)
			}
		}
		pub.Publish("house/lamp", "on", 1, enginetest.Retain)
		sub.ExpectPublish("house/lamp", "on")
		sub.ExpectNothing()
		pub.Conn.Close()
		sub.ExpectPublish("house/pub", "gone")
		sub.Disconnect()
		sub = b.Connect(t, "sub", v, enginetest.Resume(60)) // what was not acknowledged comes again
		if p := sub.ExpectPublish("house/lamp", "on"); !p.Dup {
			t.Error("a delivery that comes again is not marked")
		}
	}
}

func TestBrokerEndsConnections(t *testing.T) {
	b := enginetest.Start(t, engine.Options{})
	c := b.Connect(t, "c", enginetest.V5)
	c.Send([]byte{0xF0, 0, 0xF0, 0}) // AUTH without a method
	if code := c.ExpectDisconnect(); code != codec.ProtocolError {
		t.Errorf("code %v, want %v", code, codec.ProtocolError)
	}
	c.ExpectClosed()
	raw := b.Dial(t, enginetest.V311)
	raw.Send([]byte("GET / HTTP/1.1\r\n\r\n"))
	raw.ExpectClosed()
}

// failed collects what a test would have said.
type failed struct {
	testing.TB
	said []string
}

func (f *failed) Helper()        {}
func (f *failed) Cleanup(func()) {}
func (f *failed) Fatalf(format string, a ...any) {
	f.said = append(f.said, fmt.Sprintf(format, a...))
	panic(f)
}

func TestFailuresSayWhatCame(t *testing.T) {
	f := func(want string, act func(c *enginetest.Client, b *enginetest.Broker)) {
		t.Helper()
		b := enginetest.Start(t, engine.Options{})
		real := b.Connect(t, "c", enginetest.V5)
		real.Subscribe("t", 0)
		fake := &failed{TB: t}
		c := enginetest.Over(fake, real.Conn, enginetest.V5)
		func() {
			defer func() { _ = recover() }()
			act(c, b)
		}()
		if len(fake.said) != 1 || !strings.Contains(fake.said[0], want) {
			t.Errorf("said %q, want %q", fake.said, want)
		}
	}
	f(`got "x" to "t", want "y" to "t"`, func(c *enginetest.Client, _ *enginetest.Broker) {
		c.Publish("t", "x", 0)
		c.ExpectPublish("t", "y")
	})
	f(`want DISCONNECT, got PUBLISH "t" "x"`, func(c *enginetest.Client, _ *enginetest.Broker) {
		c.Publish("t", "x", 0)
		c.ExpectDisconnect()
	})
	f("was answered [topic filter invalid], want QoS 1", func(c *enginetest.Client, _ *enginetest.Broker) { c.Subscribe("a/#/b", 1) })
	f("want the end of the connection, got DISCONNECT administrative action", func(c *enginetest.Client, b *enginetest.Broker) {
		b.Disconnect("c", codec.AdministrativeAction)
		c.ExpectClosed()
	})
}
