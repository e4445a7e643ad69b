package engine

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

func TestMaxConnections(t *testing.T) {
	t.Parallel()
	const most = 5
	b := startBroker(t, Options{Loops: 3, MaxConnections: most})
	inside := make([]*socketClient, most)
	for i := range inside {
		inside[i] = connectSocket(t, b, codec.V5, fmt.Sprint("inside", i), true)
	}
	for i := range 20 {
		c := dialSocket(t, b, codec.V5)
		if _, err := c.connect(fmt.Sprint("beyond", i), true); err == nil || !strings.Contains(err.Error(), "CONNACK 0089") {
			t.Fatalf("connection %d of %d: %v, want CONNACK 89", most+i+1, most, err)
		}
		if got := c.next(); got != "end" {
			t.Fatalf("after CONNACK 89: %s, want the end", got)
		}
		c.Close()
	}
	eventually(t, socketPatience, "who was refused is gone", func() bool { return b.server.Connections() == most })
	idle := make([]*socketClient, connectionsBeyond)
	for i := range idle {
		idle[i] = dialSocket(t, b, codec.V5)
	}
	eventually(t, socketPatience, "the idle ones are there", func() bool { return b.server.Connections() == most+connectionsBeyond })
	for range 10 { // not even to be refused politely
		if got := dialSocket(t, b, codec.V5).next(); got != "end" {
			t.Fatalf("got %s, want the end", got)
		}
	}
	if got := b.server.Refused(); got != 10 {
		t.Errorf("%d refusals counted, want 10", got)
	}
	for _, c := range idle {
		c.Close()
	}
	for _, c := range inside {
		c.ping()
	}
	inside[0].Close()
	inside[1].Close()
	eventually(t, socketPatience, "places are free again", func() bool { return b.server.Connections() == most-2 })
	for i := range 2 {
		connectSocket(t, b, codec.V5, fmt.Sprint("later", i), true).ping()
	}
	for _, c := range inside[2:] {
		c.ping()
	}
}

// exhaustedEnv marks the process that runs as the broker of
// [TestDescriptorExhaustion].
const exhaustedEnv = "WHEELMQ_TEST_DESCRIPTORS"

// runExhausted is a broker in a process that may open few files. It opens and
// closes files of its own as it is told, and says when it has.
func runExhausted() error {
	limit := syscall.Rlimit{Cur: 120, Max: 120}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	b, err := New(Options{Loops: 2, Listeners: []Listener{
		{Address: "127.0.0.1:0", Anonymous: true}, {Address: "unix:" + os.Getenv(exhaustedEnv), Anonymous: true}},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	if err := b.Start(); err != nil {
		return err
	}
	fmt.Println(b.Addrs()[0])
	var files []int
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); fmt.Println("done") {
		switch orders.Text() {
		case "take":
			for {
				fd, err := syscall.Open(os.DevNull, syscall.O_RDONLY, 0)
				if err != nil {
					break
				}
				files = append(files, fd)
			}
		case "calm": // but two are closed, with their descriptors
			for end := time.Now().Add(socketPatience); b.Connections() > 2 && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(50 * time.Millisecond)
		case "give":
			for _, fd := range files {
				syscall.Close(fd)
			}
			files = nil
		}
	}
	return b.Stop(context.Background())
}

// TestDescriptorExhaustion fills a broker's process with connections, then
// with files of its own: it goes on in both cases.
func TestDescriptorExhaustion(t *testing.T) {
	t.Parallel()
	if os.Getenv(exhaustedEnv) != "" {
		if err := runExhausted(); err != nil {
			t.Fatal(err)
		}
		return
	}
	path := filepath.Join(t.TempDir(), "s")
	child := startChild(t, "TestDescriptorExhaustion", exhaustedEnv+"="+path)
	defer func() {
		said := child.end()
		if n := strings.Count(said, "nearly as many files open"); n != 1 || !strings.Contains(said, "descriptors are free again") ||
			!strings.Contains(said, "cannot accept connections for now") || !strings.Contains(said, "accepting connections again") {
			t.Errorf("the exhaustion was logged %d times:\n%s", n, said)
		}
	}()
	order := func(what string) { child.order(what) }
	addr := child.line()

	inside, err := tryDial(t, addr, codec.V5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := inside.connect("inside", true, keepFor(60)); err != nil {
		t.Fatal(err)
	}
	inside.subscribe(filter("t", 1))
	letIn, refused := fill(t, addr)
	if len(letIn) < 20 || refused == 0 {
		t.Errorf("%d connections were let in and %d refused", len(letIn), refused)
	}
	inside.ping()
	for _, c := range letIn {
		c.Close()
	}
	var c *socketClient
	eventually(t, socketPatience, "a place is free again", func() bool {
		c, err = tryDial(t, addr, codec.V5)
		if err != nil {
			return false
		}
		_, err = c.connect("later", true)
		return err == nil
	})
	inside.ping()

	order("calm")
	order("take")
	dial := func() (*socketClient, error) {
		c, err := net.Dial("unix", path)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(socketPatience))
		return &socketClient{Conn: c, t: t, v: codec.V5, br: bufio.NewReader(c)}, nil
	}
	late, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	inside.ping()
	time.Sleep(100 * time.Millisecond)
	order("give")
	// A connection takes two descriptors for a moment: where it is accepted while they are given back one by one, it can
	// be lost, and comes again.
	eventually(t, socketPatience, "who waited for a descriptor is let in", func() bool {
		if _, err = late.connect("late", true); err != nil {
			if again, dialErr := dial(); dialErr == nil {
				late = again
			}
		}
		return err == nil
	})
	inside.ping()

	order("take")
	if knock, err := net.Dial("tcp", addr); err == nil { // accept fails now
		knock.Close()
	}
	time.Sleep(100 * time.Millisecond)
	order("give")
	eventually(t, socketPatience, "the session is served again", func() bool {
		c, err := tryDial(t, addr, codec.V5)
		if err != nil {
			return false
		}
		present, err := c.connect("inside", false, keepFor(60))
		return err == nil && present
	})
}

// fill opens many more connections than the process can have, all at once.
func fill(t *testing.T, addr string) (letIn []*socketClient, refused int) {
	t.Helper()
	const knocks = 400
	came := make(chan *socketClient, knocks)
	for i := range knocks {
		go func() {
			c, err := tryDial(t, addr, codec.V5)
			if err == nil {
				if _, err = c.connect(fmt.Sprint("filler", i), true); err != nil {
					c.Close()
				}
			}
			if err != nil {
				c = nil
			}
			came <- c
		}()
	}
	for range knocks {
		if c := <-came; c != nil {
			letIn = append(letIn, c)
		} else {
			refused++
		}
	}
	return letIn, refused
}

// TestAnnouncedPacketsOverSockets: forty clients that announce the largest
// packet there is leave memory as it was.
func TestAnnouncedPacketsOverSockets(t *testing.T) {
	b := startBroker(t, Options{Loops: 2, MaximumPacketSize: largestPacket})
	clients := make([]*socketClient, 40)
	for i := range clients {
		clients[i] = connectSocket(t, b, codec.V5, fmt.Sprint(i), true)
	}
	before := heapInUse()
	head := append([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0x00, 0x01, 't', 0x00}, strings.Repeat("x", 1000)...)
	for _, c := range clients {
		if err := c.send(head); err != nil {
			t.Fatal(err)
		}
	}
	want := uint64(len(clients) * len(head))
	eventually(t, socketPatience, "all bytes arrived", func() bool { return b.stats().BytesReceived >= want })
	if grown := int64(heapInUse()) - int64(before); grown > 4<<20 {
		t.Errorf("%d clients that announced %d bytes cost %d bytes", len(clients), largestPacket, grown)
	}
}
