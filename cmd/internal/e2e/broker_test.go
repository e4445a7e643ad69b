package e2e

import (
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A broker is a running broker process.
type broker struct {
	*process
	port    int
	address string // 127.0.0.1:port
	stopped bool
}

// startBroker starts the broker on a free port and stops it when the test ends; a broker that ends badly or that the race
// detector complains about fails the test. The arguments are for wheelmq only.
func startBroker(t *testing.T, args ...string) *broker {
	t.Helper()
	b := &broker{port: freePort(t)}
	port := strconv.Itoa(b.port)
	b.address = net.JoinHostPort("127.0.0.1", port)
	if foreignBroker != "" {
		command := strings.Fields(strings.ReplaceAll(foreignBroker, "{port}", port))
		b.process = startProcess(t, nil, nil, command[0], command[1:]...)
	} else {
		b.process = startProcess(t, nil, nil, wheelmqPath, append([]string{"--listen", b.address}, keeping(args)...)...)
	}
	t.Cleanup(func() {
		if !b.stopped {
			b.stop(t)
		}
	})
	b.awaitOpen(t)
	return b
}

// keeping has a broker keep nothing, unless args say where.
func keeping(args []string) []string {
	for _, a := range args {
		if a == "--data-dir" || a == "--store" || a == "-c" {
			return args
		}
	}
	return append([]string{"--no-persistence"}, args...)
}

// stop ends the broker as an operator would.
func (b *broker) stop(t *testing.T) {
	t.Helper()
	b.stopped = true
	if code := b.terminate(t); code != 0 {
		t.Errorf("the broker ended with status %d, want 0\n%s", code, &b.log)
	}
	for _, complaint := range []string{"DATA RACE", "panic"} {
		if strings.Contains(b.log.String(), complaint) {
			t.Errorf("the broker reports a %s:\n%s", complaint, &b.log)
		}
	}
}

func (b *broker) awaitOpen(t *testing.T) {
	t.Helper()
	b.awaitOpenAt(t, b.port)
}

func (b *broker) awaitOpenAt(t *testing.T, port int) {
	t.Helper()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	deadline := time.Now().Add(patience)
	for {
		// A connection of the instant in which the event loops take the sockets over can be reset: wheelmq has said
		// that it is open. Where it logs too little to say so, two seconds do.
		if b.name != wheelmqPath || strings.Contains(b.log.String(), "  limit   ") || strings.Contains(b.log.String(), `"started"`) ||
			time.Until(deadline) < patience-2*time.Second {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				conn.Close()
				return
			}
		}
		select {
		case <-b.ended:
			t.Fatalf("the broker ended at once\n%s", &b.log)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s was not open after %v\n%s", address, patience, &b.log)
		}
	}
}

// freePort returns a loopback port that was free a moment ago: one below those that the kernel gives to connections, which
// other tests make all the time.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 12_000 + rand.IntN(20_000)
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// onlyWheelmq ends a test that is about the wheelmq command when another broker is being driven.
func onlyWheelmq(t *testing.T) bool {
	t.Helper()
	if foreignBroker != "" {
		t.Logf("says nothing about %s", foreignBroker)
	}
	return foreignBroker == ""
}
