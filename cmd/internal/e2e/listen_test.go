package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestOpenToOthers opens all addresses in each spelling and comes in by the families that belong to it.
func TestOpenToOthers(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	v4, v6 := []string{"127.0.0.1", "127.0.0.2"}, []string{"::1"}
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		l.Close()
	} else {
		v6 = nil
	}
	f := func(listen string, hosts []string) {
		t.Helper()
		if len(hosts) == 0 {
			return // no IPv6 on this machine
		}
		port := fmt.Sprint(freePort(t))
		p := startProcess(t, nil, nil, wheelmqPath, "--listen", listen+":"+port, "--allow-anonymous")
		awaitLog(t, p, "other machines too: anyone may connect")
		for _, host := range hosts {
			if !accepts(net.JoinHostPort(host, port)) {
				t.Errorf("--listen %s:%s does not let clients in on %s\n%s", listen, port, host, &p.log)
			}
		}
		if strings.Contains(p.log.String(), "--allow-anonymous") {
			t.Errorf("an open broker still says how to open it\n%s", &p.log)
		}
		if code := p.terminate(t); code != 0 {
			t.Errorf("status %d\n%s", code, &p.log)
		}
	}
	f("", append(v4, v6...))
	f("0.0.0.0", v4)
	f("[::]", v6)
}

// staysOpen reports whether the other side leaves conn open for a moment.
func staysOpen(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	_, err := conn.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// accepts reports whether the broker keeps a new connection for a moment.
func accepts(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	return staysOpen(conn)
}
