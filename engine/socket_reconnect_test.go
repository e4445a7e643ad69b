package engine

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// waves connects o.Clients at once, o.Waves times. Who is refused, or thrown
// out, tries again at once, without the pause that a well-behaved client makes.
// After each wave all break off together, at the next line of input; their
// sessions stay.
func (o *stormOrder) waves() error {
	input := bufio.NewReader(os.Stdin)
	cfg, err := o.tls()
	if err != nil {
		return err
	}
	clients := make([]*socketClient, o.Clients)
	for wave := range o.Waves {
		var all sync.WaitGroup
		var again, unreachable atomic.Int64
		began := time.Now()
		for i := range clients {
			all.Go(func() {
				from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%100))}, Timeout: socketPatience}
				for ; time.Since(began) < 3*time.Minute; again.Add(1) {
					c, err := from.Dial("tcp", o.Addr)
					if err != nil {
						unreachable.Add(1)
						continue
					}
					_ = c.SetDeadline(time.Now().Add(socketPatience))
					if cfg != nil {
						c = tls.Client(c, cfg)
					}
					s := &socketClient{Conn: c, v: codec.V5, br: bufio.NewReaderSize(c, 128)}
					if _, err = s.connect(fmt.Sprint("storm", i), false, keepFor(3600)); err == nil {
						clients[i] = s
						return
					}
					c.Close()
				}
			})
		}
		all.Wait()
		in := 0
		for _, c := range clients {
			if c != nil {
				in++
			}
		}
		fmt.Printf("%d clients in %v, %d more tries, %d of all not even connected\n", in, time.Since(began).Round(time.Millisecond), again.Load(), unreachable.Load())
		if _, err := input.ReadString('\n'); err != nil {
			return err
		}
		for i, c := range clients {
			if c != nil {
				c.Close()
			}
			clients[i] = nil
		}
		fmt.Println("they broke off")
		if wave+1 == o.Waves {
			break
		}
		if _, err := input.ReadString('\n'); err != nil {
			return err
		}
	}
	return nil
}

// TestReconnectStorm measures what a fleet does to clients that are connected
// when it comes at once, first unknown, then with sessions. By itself it uses a
// small one and only looks that all get in; WHEELMQ_RECONNECT=15000 go test -v
// -run ReconnectStorm ./engine is the whole.
func TestReconnectStorm(t *testing.T) {
	if os.Getenv(stormEnv) != "" {
		return // TestHandshakeStorm is run for these
	}
	t.Parallel()
	t.Run("plain", func(t *testing.T) {
		broker := (&stormOrder{Listener: &Listener{Address: "127.0.0.1:0", Anonymous: true}}).start(t)
		addr := broker.line()
		reconnectStorm(t, addr, "", broker.cmd.Process.Pid, func(id string) *socketClient {
			c, err := tryDial(t, addr, codec.V311)
			if err == nil {
				_, err = c.connect(id, true)
			}
			if err != nil {
				t.Fatal(err)
			}
			return c
		})
	})
	t.Run("tls", func(t *testing.T) {
		addr, ca, pid := startTLSBroker(t)
		reconnectStorm(t, addr, ca, pid, dialerTLS(t, addr, ca))
	})
}

// reconnectStorm measures it; open makes clients that are there before.
func reconnectStorm(t *testing.T, addr, ca string, pid int, open func(id string) *socketClient) {
	n, span := 200, 200*time.Millisecond
	if _, err := fmt.Sscan(os.Getenv("WHEELMQ_RECONNECT"), &n); err == nil {
		span = 5 * time.Second
	}
	m := newLatencyMeter(open)
	defer m.stop()
	t.Logf("before: %+v", m.during(func() { time.Sleep(span) }))
	fleet := (&stormOrder{Addr: addr, CA: ca, Clients: n, Waves: 2}).start(t)
	for _, who := range []string{"unknown", "with sessions"} {
		var said string
		used := processorTime(pid)
		during := m.during(func() { said = fleet.line() })
		t.Logf("%s: %+v; %s; %v of processor time", who, during, said, processorTime(pid)-used)
		var in int
		if _, err := fmt.Sscanf(said, "%d clients", &in); err != nil || in != n {
			t.Errorf("%s: the fleet says %q, want %d in", who, said, n)
		}
		t.Logf("%+v while all of them break off", m.during(func() {
			fleet.order("break off")
			time.Sleep(span)
		}))
		if who == "unknown" {
			fmt.Fprintln(fleet.in)
		}
	}
}
