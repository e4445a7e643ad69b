package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/engine/client"
)

// TestFullDisk has somebody else fill the disk of a broker, a tmpfs, to the
// last byte, and then the broker itself fill it as far as it may. What must be
// kept is refused then, all else goes on, and with room it is taken again. What
// was acknowledged arrives, after a kill in between too: a disk that the broker
// filled is emptied by its clients.
func TestFullDisk(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	for _, kind := range []string{"pebble", "sqlite"} {
		t.Run(kind, func(t *testing.T) { fullDisk(t, kind) })
	}
}

func fullDisk(t *testing.T, kind string) {
	dir := t.TempDir()
	if err := syscall.Mount("wheelmq", dir, "tmpfs", 0, "size=512m,mode=0700"); errors.Is(err, syscall.EPERM) {
		t.Skip("mounting a tmpfs needs root")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	start := func() *broker {
		b := &broker{port: freePort(t), stopped: true}
		b.address = fmt.Sprint("127.0.0.1:", b.port)
		unbounded := []string{"WHEELMQ_LIMITS__QUEUE__MESSAGES=unlimited", "WHEELMQ_LIMITS__QUEUE__BYTES=unlimited"}
		b.process = startProcess(t, nil, unbounded, wheelmqPath, "--listen", b.address, "--store", kind+":"+filepath.Join(dir, "data"))
		b.awaitOpen(t)
		return b
	}
	b := start()
	f := &diskFiller{t: t, b: b}
	sub := f.connect("subscriber")
	if _, err := sub.Subscribe(t.Context(), client.Subscription{Filter: "disk/#", QoS: 2}); err != nil {
		t.Fatal(err)
	}
	sub.Close()
	live := f.connect("live")
	got := make(chan string, 100)
	if _, err := live.Subscribe(t.Context(), client.Subscription{Filter: "live", QoS: 1, Handler: func(m *client.Message) { got <- string(m.Payload) }}); err != nil {
		t.Fatal(err)
	}
	f.pub = f.connect("publisher")
	f.publish(true)

	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)
	f.until(false)
	for i, qos := range []client.QoS{0, 1} {
		f.must(client.Message{Topic: "live", QoS: qos, Payload: fmt.Append(nil, i)})
		if text := <-got; text != fmt.Sprint(i) {
			t.Errorf("got %q on a full disk, want %d", text, i)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	f.until(true)

	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-b.ended
	if text := b.log.String(); !strings.Contains(text, "cannot keep messages now") {
		t.Errorf("no word of the disk:\n%s", text)
	}
	restart := func() {
		t.Helper()
		b = start()
		f.b = b
		f.pub = f.connect("publisher")
	}
	restart()
	f.drain()
	f.until(true)

	f.size = 256 << 10
	f.fillUp()
	if len(f.acknowledged) < 300 {
		t.Errorf("%d messages of %d bytes filled the disk", len(f.acknowledged), f.size)
	}
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-b.ended
	restart()
	f.fillUp()
	f.must(client.Message{Topic: "live", QoS: 1})
	if _, err := f.pub.Subscribe(t.Context(), client.Subscription{Filter: "live", QoS: 1}); err != nil {
		t.Errorf("a session that need not be kept cannot subscribe: %v", err)
	}
	f.drain()
	f.until(true)
	f.pub.Close()
	b.stop(t)
	if text := b.log.String(); !strings.Contains(text, "store: full") || !strings.Contains(text, "has room again") || strings.Contains(text, "cannot keep") {
		t.Errorf("of the room it said\n%s", text)
	}
}

// fill writes a file until there is no room.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// A diskFiller publishes to an absent subscriber.
type diskFiller struct {
	t            *testing.T
	b            *broker
	pub          *client.Client
	next         int
	size         int // of messages, at least
	acknowledged map[string]bool
}

func (f *diskFiller) connect(id string) *client.Client {
	f.t.Helper()
	c, err := client.New(client.Options{Servers: []string{"mqtt://" + f.b.address}, ClientID: id, SessionExpiry: map[bool]uint32{true: 3600}[id == "subscriber"]})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	if err := c.Connect(ctx); err != nil {
		f.t.Fatalf("%s: %v\n%s", id, err, &f.b.log)
	}
	return c
}

// publish publishes one message that must be kept and reports whether it was
// taken. The connection may end with it.
func (f *diskFiller) publish(want bool) bool {
	f.t.Helper()
	name := fmt.Sprint(f.next)
	f.next++
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	payload := make([]byte, f.size)
	rand.Read(payload) // does not compress
	_, err := f.pub.Publish(ctx, client.Message{Topic: "disk/" + name, QoS: client.QoS(1 + f.next%2), Payload: payload})
	switch {
	case ctx.Err() != nil:
		f.t.Fatalf("no answer to a message\n%s", &f.b.log)
	case err == nil:
		if f.acknowledged == nil {
			f.acknowledged = map[string]bool{}
		}
		f.acknowledged[name] = true
	case want:
		f.t.Fatalf("refused: %v", err)
	}
	return err == nil
}

// fillUp publishes until none is taken, also when what was written has settled.
func (f *diskFiller) fillUp() {
	f.t.Helper()
	for refused := 0; refused < 3; refused++ {
		f.until(false)
		time.Sleep(300 * time.Millisecond)
		if f.publish(false) {
			refused = 0
		}
	}
}

// until publishes until messages are taken, or refused.
func (f *diskFiller) until(taken bool) {
	f.t.Helper()
	for end := time.Now().Add(patience); f.publish(false) != taken; {
		if time.Now().After(end) {
			f.t.Fatalf("still not: taken %v\n%s", taken, &f.b.log)
		}
		if taken {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func (f *diskFiller) must(m client.Message) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	if _, err := f.pub.Publish(ctx, m); err != nil {
		f.t.Fatalf("%s at QoS %d: %v", m.Topic, m.QoS, err)
	}
}

// drain has the subscriber take all that was acknowledged.
func (f *diskFiller) drain() {
	f.t.Helper()
	arrived := make(chan string, 1000)
	c, err := client.New(client.Options{Servers: []string{"mqtt://" + f.b.address}, ClientID: "subscriber", SessionExpiry: 3600,
		Handler: func(m *client.Message) { arrived <- strings.TrimPrefix(m.Topic, "disk/") }})
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Connect(f.t.Context()); err != nil {
		f.t.Fatalf("%v\n%s", err, &f.b.log)
	}
	timeout := time.After(patience)
	for left := len(f.acknowledged); left > 0; {
		select {
		case name := <-arrived:
			if f.acknowledged[name] {
				delete(f.acknowledged, name)
				left--
			}
		case <-timeout:
			f.t.Fatalf("%d acknowledged messages are missing\n%s", left, &f.b.log)
		}
	}
}
