package engine

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
)

// stormEnv marks the processes of [TestHandshakeStorm] and [TestReconnectStorm].
const stormEnv = "WHEELMQ_TEST_STORM"

// stormOrder is what such a process is to do: be the broker, or connect clients.
type stormOrder struct {
	Listener *Listener // nil: connect clients
	Addr     string
	CA       string
	Clients  int
	Waves    int // above 0: so many times, each client tries again at once until it is in
}

func (o *stormOrder) run() error {
	switch {
	case o.Listener != nil:
		return o.broker()
	case o.Waves > 0:
		return o.waves()
	default:
		return o.clients()
	}
}

// broker sets processors as cmd/wheelmq does.
func (o *stormOrder) broker() error {
	runtime.GOMAXPROCS(1)
	b, err := New(Options{Listeners: []Listener{*o.Listener}, Loops: 1, SysInterval: -1, ConnectTimeout: time.Minute, HandshakesBusy: func(busy bool) {
		if busy {
			runtime.GOMAXPROCS(2)
		} else {
			runtime.GOMAXPROCS(1)
		}
	}})
	if err == nil {
		err = b.Start()
	}
	if err != nil {
		return err
	}
	fmt.Println(b.Addrs()[0])
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	return b.Stop(context.Background())
}

// clients connects them all at once and says how long that took.
func (o *stormOrder) clients() error {
	cfg, err := o.tls()
	if err != nil {
		return err
	}
	began := time.Now()
	errs := make(chan error, o.Clients)
	for i := range o.Clients {
		go func() {
			c, err := net.Dial("tcp", o.Addr)
			if err == nil {
				s := &socketClient{Conn: tls.Client(c, cfg), v: codec.V311}
				s.br = bufio.NewReader(s.Conn)
				_, err = s.connect(fmt.Sprint("storm", i), true)
			}
			errs <- err
		}()
	}
	failed := 0
	for range o.Clients {
		if err = <-errs; err != nil {
			failed++
		}
	}
	fmt.Printf("%d clients in %v, %d failed: %v\n", o.Clients, time.Since(began).Round(time.Millisecond), failed, err)
	return nil
}

// tls is how the clients open TLS; nil where they do not.
func (o *stormOrder) tls() (*tls.Config, error) {
	if o.CA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(o.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool, ServerName: "localhost"}, nil
}

// start runs such a process.
func (o *stormOrder) start(t *testing.T) *childProcess {
	t.Helper()
	order, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var under []string
	if o.Listener == nil { // gives way to others: a fleet does not run on the broker's processors
		under = []string{"nice", "-n", "19"}
	}
	child := startChild(t, "TestHandshakeStorm", stormEnv+"="+string(order), under...)
	t.Cleanup(func() { child.end() })
	return child
}

// otherBroker is one that runs already, with TLS; addr is "" where none is named.
func otherBroker(t *testing.T) (addr, ca string, pid int) {
	t.Helper()
	addr, ca = os.Getenv("WHEELMQ_STORM_ADDR"), os.Getenv("WHEELMQ_STORM_CA")
	if addr != "" {
		if _, err := fmt.Sscan(os.Getenv("WHEELMQ_STORM_PID"), &pid); err != nil {
			t.Fatalf("WHEELMQ_STORM_PID: %v", err)
		}
	}
	return addr, ca, pid
}

// startTLSBroker runs a broker in a process of its own.
func startTLSBroker(t *testing.T) (addr, ca string, pid int) {
	t.Helper()
	a := certtest.New(t, "authority")
	child := (&stormOrder{Listener: &Listener{Address: "127.0.0.1:0", Anonymous: true, TLS: serverTLS(a)}}).start(t)
	return child.line(), a.File, child.cmd.Process.Pid
}

// TestHandshakeStorm measures what a storm of handshakes does to clients that
// are connected. By itself it uses a small one and only looks that all get in;
// WHEELMQ_STORM=2000 go test -v -run HandshakeStorm ./engine holds the p99 to
// three times that of before. WHEELMQ_STORM_ADDR, _CA and _PID: against another broker.
func TestHandshakeStorm(t *testing.T) {
	if order := os.Getenv(stormEnv); order != "" {
		var o stormOrder
		err := json.Unmarshal([]byte(order), &o)
		if err == nil {
			err = o.run()
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Parallel()
	n, whole := 100, false
	if _, err := fmt.Sscan(os.Getenv("WHEELMQ_STORM"), &n); err == nil {
		whole = true
	}
	addr, ca, pid := otherBroker(t)
	if addr == "" {
		addr, ca, pid = startTLSBroker(t)
	}
	m := newLatencyMeter(dialerTLS(t, addr, ca))
	defer m.stop()
	span := 300 * time.Millisecond
	if whole {
		span = 5 * time.Second
	}
	before := m.during(func() { time.Sleep(span) })
	var said string
	used := processorTime(pid)
	storm := m.during(func() { said = (&stormOrder{Addr: addr, CA: ca, Clients: n}).start(t).line() })
	t.Logf("before: %+v", before)
	t.Logf("storm:  %+v; %s; %v of processor time each", storm, said, (processorTime(pid)-used)/time.Duration(n))
	var clients, failed int
	var took string
	if _, err := fmt.Sscanf(said, "%d clients in %s %d failed", &clients, &took, &failed); err != nil || clients != n || failed > 0 {
		t.Errorf("the storm says %q", said)
	}
	if whole && storm.p99 > 3*before.p99 {
		t.Errorf("p99 went from %v to %v", before.p99, storm.p99)
	}
}

// latencies are of messages from one client to another.
type latencies struct {
	n                   int
	p50, p99, p999, max time.Duration
}

// dialerTLS opens sessions of TLS 1.3.
func dialerTLS(t *testing.T, addr, ca string) func(id string) *socketClient {
	t.Helper()
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return func(id string) *socketClient {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		s := &socketClient{Conn: tls.Client(c, &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS13}), t: t, v: codec.V311}
		s.br = bufio.NewReader(s.Conn)
		if _, err := s.connect(id, true); err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// latencyMeter sends 1,000 messages a second over 20 pairs.
type latencyMeter struct {
	mu   sync.Mutex
	all  []time.Duration
	done chan struct{}
	wait sync.WaitGroup
}

func newLatencyMeter(open func(id string) *socketClient) *latencyMeter {
	m := &latencyMeter{done: make(chan struct{})}
	const pairs = 20
	began := time.Now()
	var pubs []*socketClient
	for i := range pairs {
		name := fmt.Sprint("pair", i)
		sub, pub := open(name+"s"), open(name+"p")
		sub.subscribe(codec.Subscription{Filter: []byte(name)})
		pubs = append(pubs, pub)
		go func() {
			for {
				_, body, err := sub.frame()
				if err != nil {
					return
				}
				sent := time.Duration(binary.BigEndian.Uint64(body[len(body)-8:]))
				m.mu.Lock()
				m.all = append(m.all, time.Since(began)-sent)
				m.mu.Unlock()
			}
		}()
	}
	m.wait.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-m.done:
				return
			case <-tick.C:
			}
			var stamp [8]byte
			binary.BigEndian.PutUint64(stamp[:], uint64(time.Since(began)))
			_ = pubs[i%pairs].send(publishPacket(codec.V311, fmt.Sprint("pair", i%pairs), string(stamp[:]), 0, 0))
		}
	})
	return m
}

// during is what was measured while f ran.
func (m *latencyMeter) during(f func()) latencies {
	m.mu.Lock()
	m.all = nil
	m.mu.Unlock()
	f()
	m.mu.Lock()
	all := slices.Clone(m.all)
	m.mu.Unlock()
	slices.Sort(all)
	if len(all) == 0 {
		return latencies{}
	}
	at := func(q float64) time.Duration { return all[int(q*float64(len(all)-1))].Round(time.Microsecond) }
	return latencies{len(all), at(0.5), at(0.99), at(0.999), at(1)}
}

func (m *latencyMeter) stop() {
	close(m.done)
	m.wait.Wait()
}
