package transport

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	proxyproto "github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

// logBuffer keeps what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func proxyHeader(t *testing.T, version byte, tlvs ...proxyproto.TLV) []byte {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(version, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1883})
	if len(tlvs) > 0 {
		if err := h.SetTLVs(tlvs); err != nil {
			t.Fatal(err)
		}
	}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sslTLV tells of TLS: client is the bits of what there was, verify 0 is good.
func sslTLV(t *testing.T, client uint8, verify uint32, name string) proxyproto.TLV {
	t.Helper()
	s := tlvparse.PP2SSL{Client: client, Verify: verify, TLV: []proxyproto.TLV{{Type: proxyproto.PP2_SUBTYPE_SSL_VERSION, Value: []byte("TLSv1.3")}}}
	if name != "" {
		s.TLV = append(s.TLV, proxyproto.TLV{Type: proxyproto.PP2_SUBTYPE_SSL_CN, Value: []byte(name)})
	}
	tlv, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return tlv
}

// TestProxy: what headers tell is told on, in pieces of every size, and
// connections without a good one are closed with a line in the log.
func TestProxy(t *testing.T) {
	t.Parallel()
	f := func(what string, p Proxy, header []byte, want string, logged string) {
		t.Helper()
		if p.Trusted == nil {
			p.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}
		log := &logBuffer{}
		s, _ := listen(t, 1, func(c *Config) {
			c.Listeners = []*Listener{{Address: "127.0.0.1:0", Name: "door", Proxy: &p}}
			c.Logger = slog.New(slog.NewTextHandler(log, nil))
		}, func(l *testLoop) {
			l.got = func(p *testPeer, b []byte) {
				told := p.RemoteAddr().String()
				if strings.HasPrefix(told, "127.0.0.1:") {
					told = "itself"
				}
				if x := p.Proxied(); x != nil && x.TLS {
					told += " " + x.TLSVersion + " " + x.CommonName + " " + x.Authority
				}
				p.Write([]byte(told + " " + string(b)))
			}
		})
		defer stop(t, s)
		for _, size := range []int{1, 9, 1 << 20} {
			c := dial(t, s.Addr(s.cfg.Listeners[0]))
			if want == "" {
				_, _ = slicedConn{c, size}.Write(header)
				if b, _ := io.ReadAll(c); len(b) > 0 {
					t.Errorf("%s: got %q", what, b)
				}
				continue
			}
			if size == 1<<20 {
				_, _ = c.Write(append(bytes.Clone(header), "x"...)) // the first packet right behind
			} else {
				_, _ = slicedConn{c, size}.Write(header)
				_, _ = io.WriteString(c, "x")
			}
			b := make([]byte, len(want)+2)
			if _, err := io.ReadFull(c, b); err != nil || string(b) != want+" x" {
				t.Errorf("%s: got %q, %v, want %q", what, b, err, want+" x")
			}
		}
		if got := log.String(); logged != "" && (strings.Count(got, "\n") != 1 || !strings.Contains(got, logged)) {
			t.Errorf("%s: logged %q, want one line with %q", what, got, logged)
		}
	}
	const client = "192.0.2.7:4711"
	conn := tlvparse.PP2_BITFIELD_CLIENT_SSL | tlvparse.PP2_BITFIELD_CLIENT_CERT_CONN
	v1, v2 := proxyHeader(t, 1), proxyHeader(t, 2)
	f("version 1", Proxy{}, v1, client, "")
	f("version 2", Proxy{}, v2, client, "")
	f("version 1, unknown", Proxy{}, []byte("PROXY UNKNOWN\r\n"), "itself", "")
	f("version 1, IPv6", Proxy{}, []byte("PROXY TCP6 2001:db8::7 2001:db8::1 4711 1883\r\n"), "[2001:db8::7]:4711", "")
	local := bytes.Clone(v2)
	local[12] = 0x20
	f("version 2, the proxy itself", Proxy{}, local, "itself", "")
	f("TLS and a certificate", Proxy{RequireTLS: true}, proxyHeader(t, 2, sslTLV(t, conn, 0, "meter 7"),
		proxyproto.TLV{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("broker")}), client+" TLSv1.3 meter 7 broker", "")
	f("a certificate that is not verified", Proxy{}, proxyHeader(t, 2, sslTLV(t, conn, 1, "meter 7")), client+" TLSv1.3  ", "")
	f("no certificate, called verified", Proxy{}, proxyHeader(t, 2, sslTLV(t, tlvparse.PP2_BITFIELD_CLIENT_SSL, 0, "meter 7")), client+" TLSv1.3  ", "")
	f("no TLS where it must be", Proxy{RequireTLS: true}, v2, "", "without TLS")

	f("no header", Proxy{}, []byte("\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc"), "", "does not begin with one")
	f("TLS", Proxy{}, []byte("\x16\x03\x01\x00\x05hello"), "", "does not begin with one")
	f("version 1 where 2 is wanted", Proxy{Version: 2}, v1, "", "does not begin with one")
	f("version 2 where 1 is wanted", Proxy{Version: 1}, v2, "", "does not begin with one")
	f("a stranger", Proxy{Trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, v1, "", "not trusted")
	f("no end", Proxy{}, []byte("PROXY "+strings.Repeat("x", 200)), "", "too long")
	f("no address", Proxy{}, []byte("PROXY TCP4 x y 1 2\r\n"), "", "PROXY header refused")
	f("UDP", Proxy{}, func() []byte { b := bytes.Clone(v2); b[13] = 0x12; return b }(), "", "is no stream")
	f("an announcement of much", Proxy{}, append(bytes.Clone(proxyV2), 0x21, 0x11, 0xff, 0xff), "", "too long")
	f("too short for its addresses", Proxy{}, append(bytes.Clone(proxyV2), 0x21, 0x11, 0, 2, 1, 2), "", "refused")

	sum := proxyHeader(t, 2, proxyproto.TLV{Type: proxyproto.PP2_TYPE_CRC32C, Value: make([]byte, 4)})
	f("a wrong checksum", Proxy{}, sum, "", "checksum is wrong")
}
