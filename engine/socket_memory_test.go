package engine

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
)

// memoryEnv holds the listener, as JSON, of the process that runs as the broker
// of [TestIdleMemory].
const memoryEnv = "WHEELMQ_TEST_MEMORY"

// runForMemory is a broker that says at each line of input what it holds: heap
// and stacks, resident memory, goroutines.
func runForMemory(listener string) error {
	var l Listener
	if err := json.Unmarshal([]byte(listener), &l); err != nil {
		return err
	}
	b, err := New(Options{Listeners: []Listener{l}, Loops: 1, SysInterval: -1})
	if err != nil {
		return err
	}
	if err := b.Start(); err != nil {
		return err
	}
	fmt.Println(b.Addrs()[0])
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		runtime.GC()
		debug.FreeOSMemory() // and what pools hold goes with the second collection
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Println(m.HeapAlloc+m.StackInuse, resident(), runtime.NumGoroutine())
	}
	return b.Stop(context.Background())
}

// resident is the process's memory in bytes.
func resident() (n int) {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &n); err == nil {
			return n << 10
		}
	}
	return 0
}

// idleCost is what one idle connection costs.
type idleCost struct{ heap, resident, goroutines float64 }

// measureIdle opens n sessions with one subscription each in a broker's process.
func measureIdle(t *testing.T, l Listener, n int, dial func(addr string) (*socketClient, error)) idleCost {
	t.Helper()
	listener, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	child := startChild(t, "TestIdleMemory", memoryEnv+"="+string(listener))
	defer child.end()
	addr := child.line()
	ask := func() (m idleCost) {
		said := child.order("")
		if _, err := fmt.Sscan(said, &m.heap, &m.resident, &m.goroutines); err != nil {
			t.Fatalf("%q: %v", said, err)
		}
		return m
	}
	open := func(from, to int) {
		for i := from; i < to; i++ {
			c, err := dial(addr)
			if err == nil {
				_, err = c.connect(fmt.Sprintf("client-%06d", i), true)
			}
			if err != nil {
				t.Fatal(err)
			}
			c.subscribe(codec.Subscription{Filter: fmt.Appendf(nil, "devices/%06d/commands", i)})
		}
	}
	open(0, 20) // what is made once is there
	before := ask()
	open(20, 20+n)
	after := ask()
	each := func(a, b float64) float64 { return (b - a) / float64(n) }
	return idleCost{each(before.heap, after.heap), each(before.resident, after.resident), each(before.goroutines, after.goroutines)}
}

// TestIdleMemory bounds what an idle connection costs, by transport. The
// figures of a larger number: WHEELMQ_IDLE=5000 go test -v -run IdleMemory ./engine
func TestIdleMemory(t *testing.T) {
	if l := os.Getenv(memoryEnv); l != "" {
		if err := runForMemory(l); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Parallel()
	n := 500 // enough that what the process holds besides is small by connection
	if _, err := fmt.Sscan(os.Getenv("WHEELMQ_IDLE"), &n); err != nil && os.Getenv("WHEELMQ_IDLE") != "" {
		t.Fatal(err)
	}
	a := certtest.New(t, "authority")
	version := func(v uint16) *tls.Config {
		return &tls.Config{RootCAs: a.Pool(), ServerName: "localhost", MinVersion: v, MaxVersion: v}
	}
	f := func(name string, most float64, l Listener, secure *tls.Config, webSocket bool) {
		t.Helper()
		l.Anonymous = true
		network := "unix"
		if l.Address == "" {
			network, l.Address = "tcp", "127.0.0.1:0"
		}
		got := measureIdle(t, l, n, func(addr string) (*socketClient, error) {
			c, err := net.Dial(network, addr)
			if err != nil {
				return nil, err
			}
			t.Cleanup(func() { c.Close() })
			if l.Proxy != nil {
				if _, err := fmt.Fprint(c, "PROXY TCP4 192.0.2.7 192.0.2.1 4711 1883\r\n"); err != nil {
					return nil, err
				}
			}
			if secure != nil {
				c = tls.Client(c, secure)
			}
			if webSocket {
				w, err := upgrade(c, "/mqtt", "mqtt")
				if err != nil {
					return nil, err
				}
				c = w
			}
			return &socketClient{Conn: c, t: t, v: codec.V5, br: bufio.NewReader(c)}, nil
		})
		t.Logf("%-20s %6.0f bytes of heap and stacks, %6.0f resident, %.2f goroutines", name, got.heap, got.resident, got.goroutines)
		if !raceEnabled && (got.heap > most || got.goroutines > 0.5) {
			t.Errorf("%s: an idle connection costs %.0f bytes and %.2f goroutines, want at most %.0f and none", name, got.heap, got.goroutines, most)
		}
	}
	f("TCP", 1600, Listener{}, nil, false)
	f("unix", 1600, Listener{Address: "unix:" + filepath.Join(t.TempDir(), "s")}, nil, false)
	f("TCP behind a proxy", 2200, Listener{Proxy: &Proxy{}}, nil, false)
	f("WebSocket", 2200, Listener{WebSocket: &WebSocket{}}, nil, true)
	f("TLS 1.2", 5500, Listener{TLS: serverTLS(a)}, version(tls.VersionTLS12), false)
	f("TLS 1.3", 5500, Listener{TLS: serverTLS(a)}, version(tls.VersionTLS13), false)
	f("WebSocket in TLS 1.3", 5800, Listener{TLS: serverTLS(a), WebSocket: &WebSocket{}}, version(tls.VersionTLS13), true)
}
