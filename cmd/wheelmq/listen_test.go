package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/engine"
)

func TestParseEndpoint(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		e, err := parseEndpoint(text)
		got := fmt.Sprintf("%s %q %d", e.scheme, e.host, e.port)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("parseEndpoint(%q) = %s (%v), want %s", text, got, err, want)
		}
	}
	f("127.0.0.1:1883", `tcp "127.0.0.1" 1883`)
	f("tcp://127.0.0.1:1883", `tcp "127.0.0.1" 1883`)
	f("TCP://[::1]:0", `tcp "::1" 0`)
	f(":1883", `tcp "" 1883`)
	f("broker.example:65535", `tcp "broker.example" 65535`)
	f("ws://:8083/mqtt", `ws "" 8083`)
	f("mqtts://[::1]:8883", `tls "::1" 8883`)
	f("unix:///run/socket", `unix "/run/socket" 0`)
	f("unix://", "error")
	f("quic://:1", "error")
	f("tls://:1/path", "error")
	f("", "error")
	f("1883", "error")
	f("127.0.0.1", "error")
	f("::1:1883", "error")
	f("127.0.0.1:", "error")
	f("127.0.0.1:mqtt", "error")
	f("127.0.0.1:65536", "error")
	f("127.0.0.1:-1", "error")
	f("user@host:1883", "error")
	f("tcp://host/path:1883", "error")
}

// fakeMachine answers a resolver's questions without a network.
func fakeMachine(ipv6 bool) resolver {
	return resolver{
		lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			switch host {
			case "localhost":
				return []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.1")}, nil
			case "ip6-localhost":
				return []netip.Addr{netip.MustParseAddr("::1")}, nil
			case "lan":
				return []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.7")}, nil
			case "mixed":
				return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.7")}, nil
			case "nothing":
				return nil, nil
			default:
				return nil, errors.New("no such host")
			}
		},
		ipv6: func() error {
			if !ipv6 {
				return errors.New("cannot assign requested address")
			}
			return nil
		},
	}
}

// listenersOf runs resolver.listeners and prints the outcome: addresses, "$" behind those where clients may read $SYS;
// or the exit status.
func listenersOf(r resolver, allowAnonymous bool, texts ...string) string {
	var endpoints []endpoint
	for _, text := range texts {
		e, err := parseEndpoint(text)
		if err != nil {
			return "unreadable"
		}
		endpoints = append(endpoints, e)
	}
	listeners, err := r.listeners(endpoints, policy{anonymous: allowAnonymous})
	var exit *exitError
	if errors.As(err, &exit) {
		return fmt.Sprint("exit ", exit.code)
	}
	var b strings.Builder
	for _, l := range listeners {
		b.WriteString(" " + l.Address)
		if l.Sys {
			b.WriteByte('$')
		}
	}
	return strings.TrimSpace(b.String())
}

func TestListeners(t *testing.T) {
	f := func(want string, ipv6, allowAnonymous bool, texts ...string) {
		t.Helper()
		if got := listenersOf(fakeMachine(ipv6), allowAnonymous, texts...); got != want {
			t.Errorf("listeners(%v, anonymous %v, ipv6 %v) = %s, want %s", texts, allowAnonymous, ipv6, got, want)
		}
	}
	f("127.0.0.1:1$", true, false, "127.0.0.1:1")
	f("127.8.9.1:1$ [::1]:1$", true, false, "127.8.9.1:1", "[::1]:1")
	f("[::1]:1$ 127.0.0.1:1$", true, false, "localhost:1") // every address of a name, each once
	f("127.0.0.1:1$", false, false, "localhost:1")         // named in a hosts file, not there
	f("exit 14", false, false, "ip6-localhost:1")
	f("exit 14", true, false, "nowhere:1")
	f("exit 14", true, false, "nothing:1")
	f("exit 3", true, false, ":1")
	f(":1", true, true, ":1")
	f("0.0.0.0:1", false, true, ":1")
	f("exit 3", true, false, "0.0.0.0:1")
	f("exit 3", true, false, "[::]:1")
	f("exit 3", true, false, "lan:1")
	f("192.0.2.7:1", true, true, "lan:1")
	f("exit 3", true, false, "mixed:1") // one address in reach of others is enough
	f("exit 3", true, false, "127.0.0.1:1", "192.0.2.7:1")
	f("exit 3", true, false, "[::ffff:192.0.2.7]:1")
	f("127.0.0.1:1$", true, false, "[::ffff:127.0.0.1]:1")
	f("127.0.0.1:1$", true, false, "ws://127.0.0.1:1/x")
	f("exit 3", true, true, "tls://127.0.0.1:1") // without a certificate
	f("unix:/run/s$", true, false, "unix:///run/s")
	f("exit 3", true, true, "unix:///run/s", "unix:///run/s")
	f("exit 3", true, true, "localhost:1", "127.0.0.1:1")                    // twice
	f("127.0.0.1:0$ 127.0.0.1:0$", true, true, "127.0.0.1:0", "127.0.0.1:0") // two free ports
}

func TestDefaultListeners(t *testing.T) {
	f := func(ipv6 bool, want, wantNote string) {
		t.Helper()
		listeners, note := fakeMachine(ipv6).defaults()
		var got []string
		for _, l := range listeners {
			if !l.Anonymous {
				t.Errorf("%s: anonymous clients are refused on a loopback address", l.Address)
			}
			got = append(got, l.Address)
		}
		if strings.Join(got, " ") != want || !strings.Contains(note, wantNote) || (note == "") != (wantNote == "") {
			t.Errorf("defaults with IPv6 %v = %v, note %q, want %s, note %q", ipv6, got, note, want, wantNote)
		}
	}
	f(true, "127.0.0.1:1883 [::1]:1883", "")
	f(false, "127.0.0.1:1883", "no IPv6 loopback")
}

func TestRefusalSaysWhatToDo(t *testing.T) {
	_, err := fakeMachine(true).listeners([]endpoint{{scheme: "tcp", host: "0.0.0.0", port: 1883}}, policy{})
	if err == nil {
		t.Fatal("an address that others can reach was opened without --allow-anonymous")
	}
	for _, want := range []string{"--listen 0.0.0.0:1883 --allow-anonymous", "--listen 0.0.0.0:1883 --password-file", "--listen 127.0.0.1:1883"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the refusal does not name %q:\n%v", want, err)
		}
	}
}

func TestPolicy(t *testing.T) {
	f := func(want string, p policy, text string) {
		t.Helper()
		e, err := parseEndpoint(text)
		if err != nil {
			t.Fatal(err)
		}
		l, err := fakeMachine(true).listeners([]endpoint{e}, p)
		got := "refused"
		if err == nil {
			got = fmt.Sprintf("%s anonymous %v tls %v websocket %v", l[0].Address, l[0].Anonymous, l[0].TLS != nil, l[0].WebSocket != nil)
		}
		if got != want {
			t.Errorf("%s with %+v: %s (%v), want %s", text, p, got, err, want)
		}
	}
	withTLS := policy{passwords: true, tls: &engine.TLS{}}
	f("127.0.0.1:1 anonymous true tls false websocket false", policy{}, "127.0.0.1:1")
	f("127.0.0.1:1 anonymous false tls false websocket false", policy{passwords: true}, "127.0.0.1:1")
	f("127.0.0.1:1 anonymous true tls false websocket false", policy{passwords: true, anonymous: true}, "127.0.0.1:1")
	f("192.0.2.7:1 anonymous false tls false websocket false", policy{passwords: true}, "192.0.2.7:1")
	f("192.0.2.7:1 anonymous false tls true websocket false", withTLS, "mqtts://192.0.2.7:1")
	f("192.0.2.7:1 anonymous false tls true websocket true", withTLS, "wss://192.0.2.7:1/mqtt")
	f("refused", policy{tls: &engine.TLS{}}, "mqtts://192.0.2.7:1") // TLS alone asks nothing of clients
}
