package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

// A listener is a client whose packets are read as they come.
type listener struct {
	*socketClient
	lines chan string // closed at the end of the connection
}

// heard takes the next packet; the connection must not have ended.
func (l *listener) heard(t *testing.T) string {
	t.Helper()
	line, ok := <-l.lines
	if !ok {
		t.Fatal("the broker closed the connection")
	}
	return line
}

// contend connects n clients with one identifier at once and returns the one
// that stays, and what the others were told.
func contend(t *testing.T, b *Broker, id string, n int) (owner *listener, losers [][]string) {
	t.Helper()
	all := make([]*listener, n)
	ended := make(chan int, n)
	for i := range all {
		l := &listener{dialSocket(t, b, codec.V5), make(chan string, 100)}
		all[i] = l
		go func() {
			defer func() { close(l.lines); ended <- i }()
			if l.send(connectPacket(codec.V5, id, false, keepFor(300))) != nil {
				return
			}
			for {
				line, err := l.line()
				if err != nil {
					return
				}
				l.lines <- line
			}
		}()
	}
	for range n - 1 {
		i := <-ended
		var lines []string
		for line := range all[i].lines {
			lines = append(lines, line)
		}
		losers = append(losers, lines)
		all[i].Close()
		all[i] = nil
	}
	return all[slices.IndexFunc(all, func(l *listener) bool { return l != nil })], losers
}

// TestSimultaneousTakeovers: ten clients connect at once with one identifier,
// on all loops. One has the session in the end, the others were told or
// closed, and the session has lost nothing.
func TestSimultaneousTakeovers(t *testing.T) {
	t.Parallel()
	const clients, rounds = 10, 15
	b := startBroker(t, Options{Loops: 4})
	pub := connectSocket(t, b, codec.V5, "pub", true)
	first := connectSocket(t, b, codec.V5, "one", true, keepFor(300)).subscribe(filter("t", 1))
	first.Close()
	for round := range rounds {
		payload := fmt.Sprintf("%q", fmt.Sprint("round ", round))
		if err := pub.send(publishPacket(codec.V5, "t", strings.Trim(payload, `"`), 1, 1)); err != nil {
			t.Fatal(err)
		}
		pub.expect("PUBACK 1 00")
		owner, losers := contend(t, b, "one", clients)
		for _, lines := range losers {
			if n := len(lines); n > 0 && lines[n-1] != "DISCONNECT 8E" {
				t.Errorf("who lost the session was told %q", lines)
			}
		}
		if got := owner.heard(t); got != connackLine(codec.V5, true) {
			t.Errorf("got %s, want %s", got, connackLine(codec.V5, true))
		}
		line := owner.heard(t) // nobody has acknowledged it
		var d, id int
		if _, err := fmt.Sscanf(line, "PUBLISH q1 r0 d%d id=%d", &d, &id); err != nil || !strings.HasSuffix(line, payload) {
			t.Fatalf("got %s, want %s", line, payload)
		}
		if err := owner.send(append(ackPacket(codec.V5, codec.PUBACK, uint16(id), 0), pingreq...)); err != nil {
			t.Fatal(err)
		}
		if got := owner.heard(t); got != "PINGRESP" {
			t.Fatalf("got %s, want PINGRESP", got)
		}
		if err := pub.send(publishPacket(codec.V5, "t", "now", 0, 0)); err != nil {
			t.Fatal(err)
		}
		if got := owner.heard(t); got != `PUBLISH q0 r0 d0 "t" "now"` {
			t.Fatalf("got %s", got)
		}
		owner.Close()
	}
	eventually(t, socketPatience, "two sessions are left, one with a connection", func() bool {
		s := b.stats()
		return s.Sessions == 2 && s.Connected == 1
	})
}

// TestReconnectOfManySessions: a thousand sessions with queued messages come
// back at once, most of them on another loop.
func TestReconnectOfManySessions(t *testing.T) {
	t.Parallel()
	const sessions, queued = 1000, 5
	b := startBroker(t, Options{Loops: 3})
	id := func(i int) string { return fmt.Sprint("session ", i) }
	for i := range sessions {
		v := versions[i%len(versions)]
		c := connectSocket(t, b, v, id(i), false, keep(v)...).subscribe(filter(fmt.Sprint("t/", i), 1))
		c.Close()
	}
	eventually(t, socketPatience, "all are away", func() bool { return b.stats().Connected == 0 })
	pub := connectSocket(t, b, codec.V5, "pub", true)
	for i := range sessions {
		var out []byte
		for n := range queued {
			out = append(out, publishPacket(codec.V5, fmt.Sprint("t/", i), fmt.Sprint(n), 1, uint16(n+1))...)
		}
		if err := pub.send(out); err != nil {
			t.Fatal(err)
		}
		for n := range queued {
			pub.expect(fmt.Sprintf("PUBACK %d 00", n+1))
		}
	}
	back := make([]*socketClient, sessions)
	for i := range back { // all are under way before the first answer is read
		back[i] = dialSocket(t, b, versions[i%len(versions)])
		if err := back[i].send(connectPacket(back[i].v, id(i), false, keep(back[i].v)...)); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range back {
		c.expect(connackLine(c.v, true))
		for n := range queued {
			c.expect(fmt.Sprintf(`PUBLISH q1 r0 d0 id=%d "t/%d" "%d"`, n+1, i, n))
			if err := c.send(ackPacket(c.v, codec.PUBACK, uint16(n+1), 0)); err != nil {
				t.Fatal(err)
			}
		}
		c.ping()
		c.Close()
	}
	eventually(t, socketPatience, "nothing is queued any more", func() bool { return b.stats().QueuedMessages == 0 })
}

// keep asks for a session that outlives its connection; in 3.x that is not
// said in CONNECT but by its lack of Clean Session.
func keep(v codec.Version) []func(*codec.Connect) {
	if v == codec.V5 {
		return []func(*codec.Connect){keepFor(300)}
	}
	return nil
}
