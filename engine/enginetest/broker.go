package enginetest

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
)

// Patience is how long a client waits for a packet, and the end of a test for
// the broker to stop: longer than a loaded machine takes.
const Patience = 20 * time.Second

// The versions of MQTT, so that a test need not import codec.
const (
	V31  = codec.V31
	V311 = codec.V311
	V5   = codec.V5
)

// A Broker is a broker inside a test.
type Broker struct {
	*engine.Broker
}

// Start starts a broker that stops when the test ends. Without listeners in o
// it has one on a free loopback port, where anybody may connect.
func Start(t testing.TB, o engine.Options) *Broker {
	t.Helper()
	if len(o.Listeners) == 0 {
		o.Listeners = []engine.Listener{{Address: "127.0.0.1:0", Anonymous: true, Sys: true}}
	}
	b, err := engine.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		if err := b.Stop(ctx); err != nil {
			t.Errorf("the broker did not stop: %v", err)
		}
	})
	return &Broker{b}
}

// Address is host:port of the first listener.
func (b *Broker) Address() string { return b.Addrs()[0].String() }

// Dial opens a connection on which nothing has been said yet.
func (b *Broker) Dial(t testing.TB, v codec.Version) *Client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", b.Address(), Patience)
	if err != nil {
		t.Fatal(err)
	}
	return Over(t, conn, v)
}

// Connect opens a connection with a new session and expects to be accepted.
// edit changes the CONNECT packet.
func (b *Broker) Connect(t testing.TB, clientID string, v codec.Version, edit ...func(*codec.Connect)) *Client {
	t.Helper()
	c := b.Dial(t, v)
	p := codec.Connect{Version: v, ClientID: []byte(clientID), CleanStart: true}
	for _, e := range edit {
		e(&p)
	}
	c.Send(p.Append(nil))
	if ack := c.ExpectConnack(); ack.Code != codec.Success {
		t.Fatalf("%s was refused: %v", clientID, ack.Code)
	}
	return c
}

// Login adds user name and password to a CONNECT.
func Login(user, password string) func(*codec.Connect) {
	return func(c *codec.Connect) {
		c.HasUserName, c.UserName = true, []byte(user)
		c.HasPassword, c.Password = true, []byte(password)
	}
}

// Resume asks for the session that is there, which outlives the connection by
// seconds; in 3.x by as long as the broker keeps it.
func Resume(seconds uint32) func(*codec.Connect) {
	return func(c *codec.Connect) {
		c.CleanStart = false
		if c.Version == V5 {
			c.Properties = codec.AppendUint(c.Properties, codec.SessionExpiryInterval, seconds)
		}
	}
}

// Will adds a Will Message.
func Will(topic, payload string, qos codec.QoS) func(*codec.Connect) {
	return func(c *codec.Connect) { c.Will = &codec.Will{Topic: []byte(topic), Payload: []byte(payload), QoS: qos} }
}
