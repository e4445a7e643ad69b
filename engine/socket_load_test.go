package engine

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// stampedWriter publishes stamped messages of QoS 0, 1 and 2 in turn, with a
// bounded number under way, and reads the answers on a goroutine of its own.
type stampedWriter struct {
	*socketClient
	topic string
	room  chan struct{} // one token for each exchange that may be under way
	fault chan error
}

const writerWindow = 30 // multiple of 3, below the broker's Receive Maximum

func newStampedWriter(c *socketClient, topic string) *stampedWriter {
	w := &stampedWriter{socketClient: c, topic: topic, room: make(chan struct{}, writerWindow), fault: make(chan error, 1)}
	for range writerWindow {
		w.room <- struct{}{}
	}
	go w.answers()
	return w
}

// answers gives room back for each exchange that is over.
func (w *stampedWriter) answers() {
	for {
		h, body, err := w.frame()
		if err != nil {
			w.fault <- err
			return
		}
		a, err := codec.ParseAck(h.Type, body, w.v)
		switch {
		case err != nil || a.Code.Failure():
			w.fault <- fmt.Errorf("%v %d: code %X, %v", h.Type, a.PacketID, byte(a.Code), err)
			return
		case h.Type == codec.PUBREC:
			_ = w.send(ackPacket(w.v, codec.PUBREL, a.PacketID, 0))
		default:
			w.room <- struct{}{}
		}
	}
}

// write publishes the n-th message of each QoS, from 1.
func (w *stampedWriter) write(n int) error {
	for range 2 {
		select {
		case <-w.room:
		case err := <-w.fault:
			return err
		case <-time.After(socketPatience):
			return errors.New("no acknowledgement came")
		}
	}
	var out []byte
	for qos := range codec.QoS(3) {
		id := uint16(n%20_000*2+int(qos)) + 1
		out = append(out, publishPacket(w.v, w.topic, fmt.Sprintf("%020d", n), qos, id)...)
	}
	return w.send(out)
}

// TestOrderOverSockets: publishers and subscribers on each of four loops; every
// subscriber gets every publisher's messages in order, QoS 1 and 2 without a gap.
func TestOrderOverSockets(t *testing.T) {
	const (
		loops = 4
		load  = 2500 * time.Millisecond
		lead  = 300 // rounds a publisher may be ahead of the slowest subscriber
	)
	b := startBroker(t, Options{Loops: loops})
	var readers [loops][]*reader // by publisher, one on each loop
	var writers [loops]*stampedWriter
	for i, c := range onEachLoop(t, b, func(n int) (string, *socketClient) {
		id := fmt.Sprint("pub", n)
		return id, connectSocket(t, b, versions[n%len(versions)], id, true)
	}) {
		writers[i] = newStampedWriter(c, fmt.Sprint("p/", i))
		for _, c := range onEachLoop(t, b, func(n int) (string, *socketClient) {
			id := fmt.Sprint("sub", i, "/", n)
			return id, connectSocket(t, b, versions[n%len(versions)], id, true)
		}) {
			r := &reader{socketClient: c.subscribe(filter(writers[i].topic, 2))}
			readers[i] = append(readers[i], r)
			go r.run()
		}
	}
	slowest := func(i, qos int) (least int64) {
		least = 1 << 60
		for _, r := range readers[i] {
			least = min(least, r.taken[qos].Load())
		}
		return least
	}
	var rounds [loops]int
	var all sync.WaitGroup
	for i, w := range writers {
		all.Go(func() {
			for end := time.Now().Add(load); time.Now().Before(end); {
				if int64(rounds[i])-min(slowest(i, 1), slowest(i, 2)) > lead {
					time.Sleep(time.Millisecond)
					continue
				}
				rounds[i]++
				if err := w.write(rounds[i]); err != nil {
					t.Errorf("publisher %d, round %d: %v", i, rounds[i], err)
					return
				}
			}
		})
	}
	all.Wait()
	total := 0
	for i := range loops {
		if rounds[i] < 100 {
			t.Errorf("publisher %d: only %d rounds", i, rounds[i])
		}
		total += rounds[i]
		eventually(t, socketPatience, fmt.Sprintf("all of publisher %d has arrived", i), func() bool {
			return min(slowest(i, 1), slowest(i, 2)) == int64(rounds[i])
		})
		for j, r := range readers[i] {
			if f := r.fault.Load(); f != nil {
				t.Errorf("publisher %d, subscriber %d: %s", i, j, *f)
			}
			if r.taken[0].Load() == 0 {
				t.Errorf("publisher %d, subscriber %d: no QoS 0", i, j)
			}
		}
	}
	t.Logf("%d messages, %d deliveries", 3*total, 3*total*loops)
}

// TestLargePayloadsBetweenLoops sends 1 MiB from each loop to all of them.
func TestLargePayloadsBetweenLoops(t *testing.T) {
	t.Parallel()
	const loops = 4
	b := startBroker(t, Options{Loops: loops, MaximumPacketSize: 2 << 20})
	clients := onEachLoop(t, b, func(n int) (string, *socketClient) {
		id := fmt.Sprint("c", n)
		return id, connectSocket(t, b, codec.V5, id, true).subscribe(filter("big", 1))
	})
	for from, pub := range clients {
		payload := strings.Repeat(string(rune('a'+from)), 1<<20)
		qos := codec.QoS(from % 2)
		go func() { _ = pub.send(publishPacket(codec.V5, "big", payload, qos, 7)) }()
		for to, c := range clients {
			left := 1
			if to == from && qos == 1 {
				left = 2 // and the acknowledgement
			}
			for ; left > 0; left-- {
				h, body, err := c.frame()
				if err != nil {
					t.Fatal(err)
				}
				if h.Type == codec.PUBACK {
					continue
				}
				var p codec.Publish
				if err := codec.ParsePublish(&p, h.Flags, body, codec.V5, codec.FromServer); err != nil {
					t.Fatal(err)
				}
				if string(p.Payload) != payload || p.QoS != qos {
					t.Errorf("from loop %d to loop %d: QoS %d, %d bytes that differ", from, to, p.QoS, len(p.Payload))
				}
				if qos == 1 {
					_ = c.send(ackPacket(codec.V5, codec.PUBACK, p.PacketID, 0))
				}
			}
		}
	}
}

// TestSplitAndJoinedReads: where packets are cut and joined on the way makes
// no difference.
func TestSplitAndJoinedReads(t *testing.T) {
	t.Parallel()
	b := startBroker(t, Options{Loops: 2})
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	for _, v := range versions {
		talk := join(connectPacket(v, "split", true), subscribePacket(v, 1, filter("t", 2)),
			publishPacket(v, "t", "hello", 2, 5), pingreq, ackPacket(v, codec.PUBREL, 5, 0))
		answers := []string{connackLine(v, false), "SUBACK 1 [02]", `PUBLISH q2 r0 d0 id=1 "t" "hello"`, "PUBREC 5 00", "PINGRESP", "PUBCOMP 5 00"}
		for at := 1; at <= len(talk); at++ {
			c := dialSocket(t, b, v)
			_ = c.send(talk[:at])
			if at%8 == 0 {
				time.Sleep(time.Millisecond) // the broker reads the first part alone
			}
			_ = c.send(talk[at:])
			c.expect(answers...)
			c.Close()
		}
		c := dialSocket(t, b, v)
		for i := range talk {
			_ = c.send(talk[i : i+1])
			time.Sleep(200 * time.Microsecond)
		}
		c.expect(answers...)
	}

	// Reads of 64 KiB that hold thousands of packets and end anywhere in one.
	sub := connectSocket(t, b, codec.V311, "sub", true).subscribe(filter("n", 0))
	pub := connectSocket(t, b, codec.V311, "pub", true)
	const n = 20_000
	var all []byte
	for i := range n {
		all = append(all, publishPacket(codec.V311, "n", fmt.Sprint(i), 0, 0)...)
	}
	go func() { _ = pub.send(all) }()
	for i := range n {
		if got, want := sub.next(), fmt.Sprintf(`PUBLISH q0 r0 d0 "n" "%d"`, i); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}
