package client_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/engine/client"
)

// startHTTPProxy starts a proxy that knows one host, broker.test, for one user.
func startHTTPProxy(t *testing.T, broker string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Proxy-Authorization") != "Basic dTpw":
			http.Error(w, "who is that?", http.StatusProxyAuthRequired)
			return
		case r.Method != http.MethodConnect || r.Host != "broker.test:1883":
			http.Error(w, "not there", http.StatusBadGateway)
			return
		}
		to, err := net.Dial("tcp", broker)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer to.Close()
		from, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer from.Close()
		if _, err := io.WriteString(from, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(to, from)
			to.Close()
		}()
		_, _ = io.Copy(from, to)
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// TestHTTPProxy: the client goes through the HTTP proxy of the environment, and
// says what that answers.
func TestHTTPProxy(t *testing.T) {
	b := broker(t)
	at := startHTTPProxy(t, b.Address())
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "")
	}
	f := func(variable, value, server, want string) {
		t.Helper()
		t.Setenv(variable, value)
		defer t.Setenv(variable, "")
		c, err := client.New(client.Options{Servers: []string{server}, NoReconnect: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		err = c.Connect(within(t))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s=%s to %s: %v, want %q", variable, value, server, err, want)
			return
		}
		if want == "" {
			if _, err := c.Publish(context.Background(), client.Message{Topic: "t", QoS: 1}); err != nil {
				t.Error(err)
			}
		}
	}
	f("HTTPS_PROXY", "http://u:p@"+at, "mqtt://broker.test", "")
	f("ALL_PROXY", "http://u:p@"+at, "mqtt://broker.test", "")
	f("HTTPS_PROXY", "http://u:p@"+at, "mqtt://elsewhere.test", "502 Bad Gateway for elsewhere.test:1883")
	f("HTTPS_PROXY", "http://"+at, "mqtt://broker.test", "407 Proxy Authentication Required")
	f("HTTPS_PROXY", "http://127.0.0.1:1", "mqtt://"+b.Address(), "") // loopback goes by no proxy
}
