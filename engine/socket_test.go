package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// Tests over real connections on the loopback interface. What can be shown
// without them is in the tests on the harness.

// socketPatience is how long a client waits for anything at all.
const socketPatience = 15 * time.Second

// startBroker runs a broker on a free port until the test ends.
func startBroker(t testing.TB, o Options) *Broker {
	t.Helper()
	if len(o.Listeners) == 0 {
		o.Listeners = []Listener{{Address: "127.0.0.1:0", Anonymous: true, Sys: true}}
	}
	if o.SysInterval == 0 {
		o.SysInterval = -1
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopBroker(t, b) })
	return b
}

func stopBroker(t testing.TB, b *Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), socketPatience)
	defer cancel()
	if err := b.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// A socketClient is the client's end of a real connection. What it cannot do
// it returns as an error, so that any goroutine of a test may use it.
type socketClient struct {
	net.Conn
	t  testing.TB
	v  codec.Version
	br *bufio.Reader
}

// dialSocket opens a connection to the broker's first listener.
func dialSocket(t testing.TB, b *Broker, v codec.Version) *socketClient {
	t.Helper()
	c, err := tryDial(t, b.Addrs()[0].String(), v)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryDial(t testing.TB, addr string, v codec.Version) (*socketClient, error) {
	n, err := net.DialTimeout("tcp", addr, socketPatience)
	if err != nil {
		return nil, err
	}
	_ = n.SetDeadline(time.Now().Add(socketPatience))
	t.Cleanup(func() { n.Close() })
	return &socketClient{Conn: n, t: t, v: v, br: bufio.NewReader(n)}, nil
}

// connectSocket opens a connection and a session on it.
func connectSocket(t testing.TB, b *Broker, v codec.Version, id string, clean bool, edit ...func(*codec.Connect)) *socketClient {
	t.Helper()
	c := dialSocket(t, b, v)
	if _, err := c.connect(id, clean, edit...); err != nil {
		t.Fatal(err)
	}
	return c
}

// connect sends CONNECT and takes the CONNACK, which must accept.
func (c *socketClient) connect(id string, clean bool, edit ...func(*codec.Connect)) (present bool, err error) {
	if err := c.send(connectPacket(c.v, id, clean, edit...)); err != nil {
		return false, err
	}
	h, body, err := c.frame()
	if err != nil {
		return false, err
	}
	ack, err := codec.ParseConnack(body, c.v)
	if err != nil || h.Type != codec.CONNACK || ack.Code != 0 {
		return false, fmt.Errorf("got %v %X, %v, want CONNACK 00", h.Type, body, err)
	}
	return ack.SessionPresent, nil
}

// send writes bytes in one piece.
func (c *socketClient) send(b []byte) error {
	_, err := c.Write(b)
	return err
}

// whole takes the next packet from the broker, header included.
func (c *socketClient) whole() (h codec.Header, packet []byte, err error) {
	for n := 2; ; n++ {
		head, err := c.br.Peek(n)
		if err != nil {
			return h, nil, err
		}
		var ok bool
		if h, ok, err = codec.ReadHeader(head); err != nil {
			return h, nil, err
		} else if ok {
			break
		}
	}
	packet = make([]byte, h.Size+h.Remaining)
	_, err = io.ReadFull(c.br, packet)
	return h, packet, err
}

// frame takes the next packet from the broker, its header apart.
func (c *socketClient) frame() (h codec.Header, body []byte, err error) {
	h, packet, err := c.whole()
	if err != nil {
		return h, nil, err
	}
	return h, packet[h.Size:], nil
}

// next takes the next packet as the harness writes it; "end" when the broker
// has closed.
func (c *socketClient) next() string {
	c.t.Helper()
	line, err := c.line()
	switch {
	case errors.Is(err, io.EOF):
		return "end"
	case err != nil:
		return err.Error()
	}
	return line
}

// line takes the next packet as the harness writes it.
func (c *socketClient) line() (string, error) {
	_, packet, err := c.whole()
	if err != nil {
		return "", err
	}
	return describe(c.t, packet, c.v), nil
}

// expect takes as many packets as it is given and compares them.
func (c *socketClient) expect(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if got := c.next(); got != w {
			c.t.Fatalf("got %s, want %s", got, w)
		}
	}
}

// subscribe subscribes and waits until it is so.
func (c *socketClient) subscribe(filters ...codec.Subscription) *socketClient {
	c.t.Helper()
	if err := c.send(subscribePacket(c.v, 900, filters...)); err != nil {
		c.t.Fatal(err)
	}
	if got := c.next(); !strings.HasPrefix(got, "SUBACK 900 ") {
		c.t.Fatalf("got %s, want SUBACK", got)
	}
	return c
}

// ping sends PINGREQ and waits for the answer: all that was sent is handled then.
func (c *socketClient) ping() {
	c.t.Helper()
	if err := c.send(pingreq); err != nil {
		c.t.Fatal(err)
	}
	c.expect("PINGRESP")
}

// onEachLoop connects one client on each of the broker's loops; f makes the
// n-th client.
func onEachLoop(t testing.TB, b *Broker, f func(n int) (id string, c *socketClient)) []*socketClient {
	t.Helper()
	clients := make([]*socketClient, b.Loops())
	for n, left := 0, b.Loops(); left > 0; n++ {
		if n == 200 {
			t.Fatalf("%d of %d loops took none of %d connections", left, b.Loops(), n)
		}
		id, c := f(n)
		place, ok := b.directory.Lookup(id)
		if !ok {
			t.Fatalf("%s is not in the directory", id)
		}
		if i := int(place >> 56); clients[i] == nil {
			clients[i] = c
			left--
		} else {
			c.Close()
		}
	}
	return clients
}

// eventually waits until f reports true.
func eventually(t testing.TB, within time.Duration, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func TestSeveralBrokers(t *testing.T) {
	t.Parallel()
	const n = 3
	var brokers [n]*Broker
	var subs, pubs [n]*socketClient
	for i := range n {
		brokers[i] = startBroker(t, Options{Loops: 2})
		subs[i] = connectSocket(t, brokers[i], codec.V5, "sub", true).subscribe(filter("#", 0))
		pubs[i] = connectSocket(t, brokers[i], codec.V311, "pub", true)
	}
	hear := func(i int) {
		t.Helper()
		if err := pubs[i].send(publishPacket(codec.V311, "t", fmt.Sprint(i), 0, 0)); err != nil {
			t.Fatal(err)
		}
		subs[i].expect(fmt.Sprintf(`PUBLISH q0 r0 d0 "t" "%d"`, i))
	}
	for i := range n {
		hear(i)
	}
	stopBroker(t, brokers[0])
	hear(1)
	hear(2)
}

// TestStartStopLeavesNothing runs before the parallel tests, so that what it
// counts is its own.
func TestStartStopLeavesNothing(t *testing.T) {
	cycle := func() {
		var all sync.WaitGroup
		b, err := New(Options{Listeners: []Listener{{Address: "127.0.0.1:0", Anonymous: true}}, Loops: 3})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Start(); err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			c := connectSocket(t, b, codec.V5, fmt.Sprint(i), true)
			c.ping()
			all.Go(func() {
				defer c.Close()
				_, _ = io.Copy(io.Discard, c)
			})
		}
		stopBroker(t, b)
		all.Wait()
	}
	descriptors := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	cycle() // gnet's workers come with the first
	cycle()
	goroutines, files := runtime.NumGoroutine(), descriptors()
	const cycles = 8
	for range cycles {
		cycle()
	}
	eventually(t, 3*time.Second, "as many goroutines as before", func() bool { return runtime.NumGoroutine() < goroutines+cycles/2 })
	eventually(t, 3*time.Second, "as many descriptors as before", func() bool { return descriptors() <= files })
}

func TestPortZero(t *testing.T) {
	t.Parallel()
	b := startBroker(t, Options{Listeners: []Listener{
		{Address: "127.0.0.1:0", Anonymous: true}, {Address: "127.0.0.1:0"}}})
	first, second := b.Addrs()[0].(*net.TCPAddr), b.Addrs()[1].(*net.TCPAddr)
	if first.Port == 0 || second.Port == 0 || first.Port == second.Port {
		t.Fatalf("ports %d and %d", first.Port, second.Port)
	}
	connectSocket(t, b, codec.V5, "a", true)
	c, err := tryDial(t, second.String(), codec.V5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.connect("b", true); err == nil || !strings.Contains(err.Error(), "CONNACK 0087") {
		t.Errorf("anonymous on the second listener: %v, want CONNACK 87", err)
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	f := func(name, addr string) {
		t.Helper()
		b, err := New(Options{Listeners: []Listener{{Address: addr}}})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := b.Start(); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: got %v, want %v", name, err, syscall.EADDRINUSE)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
	held := func(control func(network, address string, c syscall.RawConn) error) string {
		l, err := (&net.ListenConfig{Control: control}).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l.Addr().String()
	}
	const soReusePort = 15 // SO_REUSEPORT, which package syscall does not have
	f("plain listener", held(nil))
	f("listener with SO_REUSEPORT", held(func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soReusePort, 1) }); e != nil {
			return e
		}
		return err
	}))
	f("another broker", startBroker(t, Options{}).Addrs()[0].String())
}

func TestIPv6Loopback(t *testing.T) {
	t.Parallel()
	b := startBroker(t, Options{Listeners: []Listener{{Address: "[::1]:0", Anonymous: true}}})
	if ip := b.Addrs()[0].(*net.TCPAddr).IP; !ip.Equal(net.IPv6loopback) {
		t.Errorf("listening on %v", ip)
	}
	c := connectSocket(t, b, codec.V311, "six", true).subscribe(filter("t", 0))
	if err := c.send(publishPacket(codec.V311, "t", "x", 0, 0)); err != nil {
		t.Fatal(err)
	}
	c.expect(`PUBLISH q0 r0 d0 "t" "x"`)
}

func TestStopMoreThanOnce(t *testing.T) {
	t.Parallel()
	b, err := New(Options{Listeners: []Listener{{Address: "127.0.0.1:0"}}})
	if err != nil {
		t.Fatal(err)
	}
	stopBroker(t, b) // was never started
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	if b.Start() == nil {
		t.Error("started twice")
	}
	stopBroker(t, b)
	stopBroker(t, b)
	if _, err := net.Dial("tcp", b.Addrs()[0].String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial after Stop: %v", err)
	}
}

// TestStopTellsClients ends a broker with many clients: each reads what its
// version is told, and nobody's end takes long.
func TestStopTellsClients(t *testing.T) {
	const n = 2000
	b := startBroker(t, Options{Loops: 2})
	clients := make([]*socketClient, n)
	for i := range clients {
		clients[i] = connectSocket(t, b, versions[i%len(versions)], fmt.Sprint(i), true)
	}
	wrong := make(chan string, n)
	var all sync.WaitGroup
	for i, c := range clients {
		all.Go(func() {
			defer c.Close()
			if c.v == codec.V5 {
				if got := c.next(); got != "DISCONNECT 8B" {
					wrong <- fmt.Sprintf("client %d: got %s, want DISCONNECT 8B", i, got)
				}
			}
			if got := c.next(); got != "end" {
				wrong <- fmt.Sprintf("client %d: got %s, want the end", i, got)
			}
		})
	}
	began := time.Now()
	stopBroker(t, b)
	if took := time.Since(began); took > time.Second {
		t.Errorf("Stop took %v", took)
	}
	all.Wait()
	close(wrong)
	for w := range wrong {
		t.Error(w)
	}
}

// TestStopWhileClientsSend: what clients still send after they were told is
// taken for a while. A close with bytes unread would reset the connection, and
// a reset may overtake the last packet.
func TestStopWhileClientsSend(t *testing.T) {
	t.Parallel()
	b := startBroker(t, Options{Loops: 2})
	var all sync.WaitGroup
	packet := publishPacket(codec.V5, "t", strings.Repeat("x", 2000), 0, 0)
	for i := range 20 {
		c := connectSocket(t, b, codec.V5, fmt.Sprint(i), true)
		sending, told := make(chan struct{}), make(chan struct{})
		all.Go(func() {
			defer c.Close()
			for n := 0; ; n++ {
				if err := c.send(packet); err != nil {
					t.Errorf("client %d, packet %d: %v", i, n, err)
					return
				}
				if n == 10 {
					close(sending)
				}
				select {
				case <-told:
					return
				default:
				}
			}
		})
		all.Go(func() {
			for _, want := range []string{"DISCONNECT 8B", "end"} {
				if got := c.next(); got != want {
					t.Errorf("client %d: got %s, want %s", i, got, want)
				}
			}
			time.Sleep(50 * time.Millisecond)
			close(told)
		})
		<-sending
	}
	stopBroker(t, b)
	all.Wait()
}

func TestStopWithClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	b := startBroker(t, Options{Loops: 1})
	deaf := connectSocket(t, b, codec.V5, "deaf", true).subscribe(filter("#", 0))
	pub := connectSocket(t, b, codec.V5, "pub", true)
	dialSocket(t, b, codec.V5) // and one that never sent CONNECT
	packet := publishPacket(codec.V5, "t", strings.Repeat("x", 100_000), 0, 0)
	for range 100 {
		if err := pub.send(packet); err != nil {
			t.Fatal(err)
		}
	}
	pub.ping()
	began := time.Now()
	stopBroker(t, b)
	if took := time.Since(began); took > time.Second {
		t.Errorf("Stop took %v", took)
	}
	deaf.Close()
}
