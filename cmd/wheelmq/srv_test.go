package main

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"golang.org/x/net/dns/dnsmessage"
)

// nameServer answers for two brokers of example.test, until the test ends.
func nameServer(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	was := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	done := make(chan struct{})
	t.Cleanup(func() {
		net.DefaultResolver = was
		conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Additionals = true, nil
			for i, target := range []string{"second.example.test.", "first.example.test."} {
				if q.Type == dnsmessage.TypeSRV && strings.HasSuffix(q.Name.String(), "mqtt._tcp.example.test.") {
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60},
						Body: &dnsmessage.SRVResource{Priority: uint16(2 - i), Port: uint16(4000 + i), Target: dnsmessage.MustNewName(target)}})
				}
			}
			if len(m.Answers) == 0 {
				m.RCode = dnsmessage.RCodeNameError
			}
			if answer, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(answer, from) // lost answers are asked for again
			}
		}
	}()
}

// TestSRV: with -S the brokers are those of the domain's SRV records, in the order of their priorities.
func TestSRV(t *testing.T) {
	nameServer(t)
	f := func(want string, args ...string) {
		t.Helper()
		var c clientFlags
		set := pflag.NewFlagSet("sub", pflag.ContinueOnError)
		c.register(set)
		err := c.parse(set, args)
		o, refused := c.options()
		got := strings.Join(o.Servers, " ")
		if refused != nil {
			got = refused.Error()
		}
		if err != nil || got != want && (refused == nil || !strings.Contains(got, want)) {
			t.Errorf("%q: %q, %v; want %q", args, got, err, want)
		}
	}
	f("mqtt://first.example.test:4001 mqtt://second.example.test:4000", "-S", "-h", "example.test")
	f("mqtts://first.example.test:4001 mqtts://second.example.test:4000", "--srv", "-h", "example.test", "--tls-use-os-certs")
	f("mqtt://example.test:1883", "-h", "example.test")
	f("-S: lookup _mqtt._tcp.elsewhere.test", "-S", "-h", "elsewhere.test")
	f("no SRV records for WebSocket", "-S", "-h", "example.test", "--ws")
}
