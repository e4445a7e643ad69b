package engine

import (
	"bufio"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

// TestListenersWhileRunning opens and closes listeners of a running broker and
// gives it connections that were accepted elsewhere.
func TestListenersWhileRunning(t *testing.T) {
	t.Parallel()
	b := startBroker(t, Options{Loops: 2})
	path := filepath.Join(t.TempDir(), "wheelmq.sock")
	names := func(want ...string) {
		t.Helper()
		var got []string
		for _, l := range b.Listeners() {
			got = append(got, l.Name)
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("listeners %q, want %q", got, want)
		}
	}
	for _, l := range []Listener{
		{Name: "side", Address: "127.0.0.1:0", Anonymous: true},
		{Address: "unix:" + path, SocketMode: 0o600, Anonymous: true},
		{Name: "door", Anonymous: true},
	} {
		if _, err := b.OpenListener(l); err != nil {
			t.Fatal(err)
		}
	}
	names("127.0.0.1:0", "side", "unix:"+path, "door")
	if _, err := b.OpenListener(Listener{Name: "door"}); err == nil {
		t.Error("two listeners of one name")
	}
	f := func(name string, c net.Conn) {
		t.Helper()
		s := &socketClient{Conn: c, t: t, v: codec.V5, br: bufio.NewReader(c)}
		_ = c.SetDeadline(time.Now().Add(socketPatience))
		t.Cleanup(func() { c.Close() })
		if _, err := s.connect("client "+name, true); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		n := 0
		for _, l := range b.Listeners() {
			if l.Name == name {
				n = l.Connections
			}
		}
		if n != 1 {
			t.Errorf("%s: %d connections, want 1", name, n)
		}
	}
	dial := func(name, network string) net.Conn {
		for _, l := range b.Listeners() {
			if l.Name == name {
				c, err := net.Dial(network, l.Addr.String())
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
		}
		t.Fatalf("no listener %q", name)
		return nil
	}
	f("side", dial("side", "tcp"))
	f("unix:"+path, dial("unix:"+path, "unix"))
	mine, theirs := net.Pipe()
	if err := b.Adopt("door", theirs); err != nil {
		t.Fatal(err)
	}
	f("door", mine)
	for _, name := range []string{"side", "unix:" + path, "door", "127.0.0.1:0"} {
		if err := b.CloseListener(name); err != nil {
			t.Error(err)
		}
		if err := b.CloseListener(name); err == nil {
			t.Errorf("%s was closed twice", name)
		}
	}
	names()
	if got := b.Connections(); got != 3 {
		t.Errorf("%d connections, want those 3 that came before", got)
	}
	_, theirs = net.Pipe()
	if err := b.Adopt("door", theirs); err == nil || theirs.SetDeadline(time.Time{}) == nil {
		t.Errorf("adopted by a listener that is closed: %v", err)
	}
}
