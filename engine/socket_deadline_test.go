package engine

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// deadlineTolerance is how much later than its time a connection is closed: a
// deadline lies on a tick of the wheel, ticks are looked at once per tick, and
// the keep-alive counts from the tick after the last packet; the rest is for
// the machine.
const deadlineTolerance = 3*tick + 500*time.Millisecond

// endsAfter checks when the broker ends the connection, and what it says.
func (c *socketClient) endsAfter(what string, began time.Time, d time.Duration, last ...string) {
	for _, want := range append(last, "end") {
		if got := c.next(); got != want {
			c.t.Errorf("%s: got %s, want %s", what, got, want)
			return
		}
	}
	if took := time.Since(began); took < d || took > d+deadlineTolerance {
		c.t.Errorf("%s: ended after %v, want %v to %v", what, took, d, d+deadlineTolerance)
	}
}

// dribble sends bytes one by one until the connection ends.
func (c *socketClient) dribble(b []byte) {
	for i := range b {
		if c.send(b[i:i+1]) != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestDeadlinesOverSockets(t *testing.T) {
	t.Parallel()
	const connectTimeout = 500 * time.Millisecond
	b := startBroker(t, Options{Loops: 2, ConnectTimeout: connectTimeout})
	long := bytes.Repeat([]byte("x"), 200)
	var all sync.WaitGroup
	f := func(what string, d time.Duration, begin func(c *socketClient), last ...string) {
		all.Go(func() {
			c, err := tryDial(t, b.Addrs()[0].String(), codec.V5)
			if err != nil {
				t.Error(err)
				return
			}
			began := time.Now()
			begin(c)
			c.endsAfter(what, began, d, last...)
		})
	}
	f("nothing sent", connectTimeout, func(*socketClient) {})
	f("CONNECT dribbling", connectTimeout, func(c *socketClient) {
		go c.dribble(connectPacket(codec.V5, string(long), true))
	})
	f("half of a CONNECT", connectTimeout, func(c *socketClient) {
		_ = c.send(connectPacket(codec.V5, "half", true)[:9])
	})
	f("keep-alive, silent", 1500*time.Millisecond, func(c *socketClient) {
		_, _ = c.connect("silent", true, keepAlive(1))
	}, "DISCONNECT 8D")
	f("keep-alive, dribbling", 1500*time.Millisecond, func(c *socketClient) {
		_, _ = c.connect("dribbling", true, keepAlive(1))
		go c.dribble(publishPacket(codec.V5, "t", string(long), 0, 0))
	}, "DISCONNECT 8D")
	alive := connectSocket(t, b, codec.V5, "alive", true, keepAlive(1))
	for range 5 {
		time.Sleep(700 * time.Millisecond)
		alive.ping()
	}
	all.Wait()
}

// TestLastPacketIsReadable: a client that sends megabytes while it is refused
// still reads why. A close with its bytes unread would reset the connection
// and take the packet away.
func TestLastPacketIsReadable(t *testing.T) {
	t.Parallel()
	b := startBroker(t, Options{Loops: 1, MaximumPacketSize: 1 << 20})
	huge := publishPacket(codec.V5, "t", strings.Repeat("x", 8<<20), 0, 0)
	f := func(what string, packet []byte, code string) {
		t.Helper()
		for i := range 5 {
			c := connectSocket(t, b, codec.V5, fmt.Sprint(what, i), true)
			if err := c.send(packet); err != nil {
				t.Fatalf("%s: the broker does not take what it refused: %v", what, err)
			}
			c.expect("DISCONNECT "+code, "end")
			c.Close()
		}
	}
	f("packet too large", huge, "95")
	f("malformed", append([]byte{0xC0, 0x01, 0x00}, huge...), "81")

	c := dialSocket(t, b, codec.V5) // the same before the session is there
	if err := c.send(append(connectPacket(codec.V5, "id", true, func(p *codec.Connect) {
		p.Will = &codec.Will{Topic: []byte("a/#")}
	}), huge...)); err != nil {
		t.Fatal(err)
	}
	if got := c.next(); !strings.HasPrefix(got, "CONNACK sp=0 9") && !strings.HasPrefix(got, "CONNACK sp=0 8") {
		t.Errorf("got %s, want a refusing CONNACK", got)
	}
}
