package foreign

import (
	"fmt"
	"os"
	"testing"

	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
)

// TestBehindHAProxy: the broker sees the client that the proxy tells of, in both
// versions, with what TLS the proxy ended and whose certificate it verified.
func TestBehindHAProxy(t *testing.T) {
	t.Parallel()
	a := certtest.New(t, "authority")
	cert, key := a.Issue(certtest.Request{})
	both := write(t, "server.pem", read(t, cert)+read(t, key))
	mine, mineKey := a.Issue(certtest.Request{CommonName: "meter 7"})

	w1, w2 := &watcher{}, &watcher{}
	b1 := startBroker(t, w1, engine.Listener{Proxy: &engine.Proxy{Version: 1}})
	b2 := startBroker(t, w2, engine.Listener{Proxy: &engine.Proxy{Version: 2, RequireTLS: true}, Identity: engine.IdentityCommonName, ClientIDFromUserName: true})
	front1, front2 := freePort(t), freePort(t)
	config := write(t, "haproxy.cfg", fmt.Sprintf(`global
	maxconn 100
defaults
	mode tcp
	timeout connect 10s
	timeout client 60s
	timeout server 60s
listen v1
	bind 127.0.0.1:%s
	server broker 127.0.0.1:%s send-proxy check inter 100ms
listen v2
	bind 127.0.0.1:%s ssl crt %s ca-file %s verify optional
	server broker 127.0.0.1:%s send-proxy-v2 proxy-v2-options ssl,cert-cn,authority,crc32c check inter 100ms check-send-proxy
`, front1, port(b1), front2, both, a.File, port(b2)))
	start(t, "haproxy", "-db", "-f", config)
	await(t, front1)

	pub := func(args ...string) error {
		out, err := run(t, nil, nil, "mosquitto_pub", append(args, "-q", "1", "-t", "a", "-m", "hello", "-i", "given")...)
		if err != nil {
			return fmt.Errorf("%w, %s", err, out)
		}
		return nil
	}
	if err := pub("-h", "127.0.0.1", "-p", front1, "-A", "127.0.0.9"); err != nil {
		t.Error(err)
	}
	if got := w1.last(t); host(got.RemoteAddr.String()) != "127.0.0.9" || got.LocalAddr.String() != "127.0.0.1:"+front1 || got.Proxied.TLS {
		t.Errorf("version 1: the hook was told %+v, %+v", got, got.Proxied)
	}
	tls := []string{"-h", "localhost", "-p", front2, "--cafile", a.File}
	if err := pub(append(tls, "-A", "127.0.0.9", "--cert", mine, "--key", mineKey)...); err != nil {
		t.Error(err)
	}
	got := w2.last(t)
	if host(got.RemoteAddr.String()) != "127.0.0.9" || !got.Proxied.TLS || got.Proxied.CommonName != "meter 7" || got.Proxied.Authority != "localhost" ||
		got.UserName != "meter 7" || got.ClientID != "meter 7" || !got.Identified {
		t.Errorf("version 2: the hook was told %+v, %+v", got, got.Proxied)
	}
	if err := pub(tls...); err == nil {
		t.Error("a client without a certificate has an identity")
	}
	if err := pub("-h", "127.0.0.1", "-p", port(b1)); err == nil {
		t.Error("a client that passes by the proxy is let in")
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
