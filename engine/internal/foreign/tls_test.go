package foreign

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/internal/certs/certtest"
)

// TestMosquittoClientsOverTLS: mosquitto_sub and mosquitto_pub, with the
// client's certificate and without.
func TestMosquittoClientsOverTLS(t *testing.T) {
	t.Parallel()
	a := certtest.New(t, "authority")
	good, goodKey := a.Issue(certtest.Request{CommonName: "good"})
	bad, badKey := certtest.New(t, "stranger").Issue(certtest.Request{})
	f := func(ask engine.ClientCertificates, version string, more []string, want bool) {
		t.Helper()
		server := serverTLS(a)
		server.ClientCertificates = ask
		b := startBroker(t, nil, engine.Listener{TLS: server})
		_, port, _ := net.SplitHostPort(b.Addrs()[0].String())
		args := append([]string{"-h", "localhost", "-p", port, "--cafile", a.File, "--tls-version", version, "-t", "a/b", "-q", "1", "-r"}, more...)
		out, err := run(t, nil, nil, "mosquitto_pub", append(args, "-m", "hello")...)
		if (err == nil) != want {
			t.Errorf("%v %s %q: %v, %s", ask, version, more, err, out)
		}
		if !want {
			return
		}
		args = append([]string{"-h", "localhost", "-p", port, "--cafile", a.File, "--tls-version", version, "-t", "a/b", "-C", "1", "-W", "10"}, more...)
		if out, err := run(t, nil, nil, "mosquitto_sub", args...); err != nil || out != "hello\n" {
			t.Errorf("%v %s %q: got %q, %v", ask, version, more, out, err)
		}
	}
	with, stranger := []string{"--cert", good, "--key", goodKey}, []string{"--cert", bad, "--key", badKey}
	for _, version := range []string{"tlsv1.2", "tlsv1.3"} {
		f(engine.NoClientCertificate, version, nil, true)
		f(engine.OptionalClientCertificate, version, nil, true)
		f(engine.RequiredClientCertificate, version, with, true)
		f(engine.RequiredClientCertificate, version, nil, false)
		f(engine.RequiredClientCertificate, version, stranger, false)
		f(engine.NoClientCertificate, version, []string{"--tls-alpn", "mqtt"}, true)
	}
}

// TestOpenSSL: versions, key updates and attempts to renegotiate, by openssl s_client.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	a := certtest.New(t, "authority")
	b := startBroker(t, nil, engine.Listener{TLS: serverTLS(a)})
	addr := b.Addrs()[0].String()
	connect := []byte("\x10\x13\x00\x04MQTT\x04\x02\x00\x3c\x00\x07openssl")
	pings := func(n int) []byte { return bytes.Repeat([]byte("\xc0\x00"), n) }
	// commands go to s_client on lines of their own; packets without an end of line go with the next one.
	f := func(what string, input [][]byte, want string, args ...string) {
		t.Helper()
		args = append([]string{"s_client", "-connect", addr, "-CAfile", a.File, "-servername", "localhost", "-verify_return_error"}, args...)
		// s_client reads a command only by itself: where a pause was too short, on a busy machine, a longer one is tried.
		for pause := 300 * time.Millisecond; ; pause *= 3 {
			r, w := io.Pipe()
			go func() {
				for _, b := range input {
					_, _ = w.Write(b)
					time.Sleep(pause)
				}
				w.Close()
			}()
			out, err := run(t, r, nil, "openssl", args...)
			if strings.Contains(out, want) {
				return
			}
			if pause > 2*time.Second {
				t.Errorf("%s: %v, want %q in\n%q", what, err, want, out)
				return
			}
		}
	}
	pong := "\xd0\x00"
	f("1.3", [][]byte{connect, pings(1)}, "\x20\x02\x00\x00"+pong, "-tls1_3", "-quiet", "-no_ign_eof")
	f("1.2", [][]byte{connect, pings(1)}, "\x20\x02\x00\x00"+pong, "-tls1_2", "-quiet", "-no_ign_eof")
	f("1.1", nil, "alert protocol version", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
	f("key update, both sides", [][]byte{connect, []byte("K\n"), pings(1), []byte("K\n"), pings(2)}, "KEYUPDATE", "-tls1_3")
	f("packets behind a key update", [][]byte{connect, []byte("K\n"), pings(1)}, pong, "-tls1_3")
	f("key update, one side", [][]byte{connect, []byte("k\n"), pings(1)}, pong, "-tls1_3")
	f("renegotiation", [][]byte{connect, []byte("R\n"), pings(1)}, "alert unexpected message", "-tls1_2")
}
