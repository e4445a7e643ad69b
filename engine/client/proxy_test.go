package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/client"
	"github.com/wheelmq/wheelmq/engine/enginetest"
	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
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

// clearProxies leaves the environment without proxies while the test runs.
func clearProxies(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "")
	}
}

// TestHTTPProxy: the client goes through the HTTP proxy of the environment, and
// says what that answers.
func TestHTTPProxy(t *testing.T) {
	b := broker(t)
	at := startHTTPProxy(t, b.Address())
	clearProxies(t)
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

// TestTinyproxy: through an HTTP proxy that others wrote, open and with a password, for each kind of connection; and what
// it refuses is told.
func TestTinyproxy(t *testing.T) {
	authority := certtest.New(t, "authority")
	certificate, key := authority.Issue(certtest.Request{})
	secure := &engine.TLS{Certificates: []engine.KeyPair{{CertificateFile: certificate, KeyFile: key}}}
	b := enginetest.Start(t, engine.Options{Listeners: []engine.Listener{
		{Address: "127.0.0.1:0", Anonymous: true}, {Address: "127.0.0.1:0", Anonymous: true, TLS: secure},
		{Address: "127.0.0.1:0", Anonymous: true, WebSocket: &engine.WebSocket{}}}})
	// To this machine there is no proxy, but by this name of it, which is not one of the loopback interface.
	at := func(scheme string, n int) string {
		_, port, _ := net.SplitHostPort(b.Addrs()[n].String())
		return scheme + "://0.0.0.0:" + port
	}
	const config = "Listen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\n"
	const ready = "Starting main loop. Accepting connections."
	start := func(more string) string {
		return startForeign(t, "tinyproxy", ready, func(port string) string { return "Port " + port + "\n" + config + more }, "-d", "-c")
	}
	open, closed := start(""), start("BasicAuth ada secret\nConnectPort 9\n")
	withPassword := start("BasicAuth ada secret\n")
	clearProxies(t)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, free, _ := net.SplitHostPort(nobody.Addr().String())
	nobody.Close()
	f := func(proxy, server, want string) {
		t.Helper()
		t.Setenv("HTTPS_PROXY", proxy)
		c, err := client.New(client.Options{Servers: []string{server}, NoReconnect: true,
			TLS: &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		err = c.Connect(within(t))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("by %s to %s: %v, want %q", proxy, server, err, want)
		}
		if err != nil || want != "" {
			return
		}
		var got collector
		if _, err := c.Subscribe(within(t), client.Subscription{Filter: "t", QoS: 1, Handler: got.add}); err != nil {
			t.Fatal(err)
		}
		large := bytes.Repeat([]byte("0123456789"), 60_000)
		if _, err := c.Publish(within(t), client.Message{Topic: "t", Payload: large, QoS: 1}); err != nil {
			t.Fatal(err)
		}
		if m := got.await(t, 1)[0]; !bytes.Equal(m.Payload, large) {
			t.Errorf("by %s to %s: %d bytes came, another message", proxy, server, len(m.Payload))
		}
	}
	for n, scheme := range []string{"mqtt", "mqtts", "ws"} {
		f("http://"+open, at(scheme, n), "")
		f("http://ada:secret@"+withPassword, at(scheme, n), "")
	}
	f("http://"+withPassword, at("mqtt", 0), "407 Proxy Authentication Required for 0.0.0.0")
	f("http://ada@"+withPassword, at("mqtt", 0), "401 Unauthorized")
	f("http://ada:other@"+withPassword, at("mqtt", 0), "401 Unauthorized")
	f("http://ada:secret@"+closed, at("mqtt", 0), "403 Access violation for 0.0.0.0")
	f("http://"+open, "mqtt://0.0.0.0:"+free, "500 Unable to connect for 0.0.0.0:"+free)
}
