package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/wheelmq/wheelmq/engine/internal/certs"
	"github.com/wheelmq/wheelmq/engine/internal/limits"
	"github.com/wheelmq/wheelmq/engine/internal/transport"
	"github.com/wheelmq/wheelmq/engine/store"
)

// A Listener is one door by which clients come in.
type Listener struct {
	Name           string       // in logs, figures and hook.Connect; unique; "" for Address
	Address        string       // host:port, where port 0 picks one; "unix:" and a path; "" where connections come by [Broker.Adopt] only
	Socket         net.Listener // open already, in place of Address; the broker closes it
	SocketMode     fs.FileMode  // permissions of a unix socket; 0: what the umask leaves
	Anonymous      bool         // clients without user name may come in
	Sys            bool         // clients may read $SYS, where no hook.Authorizer decides
	MaxConnections int          // by this listener; more are closed as they come; 0: no bound of its own
	ConnectRate    int          // connections a second; more are refused with 0x9F, or closed before TLS; 0: no bound
	Rates          Rates        // of all clients together that come by it
	Durability     Durability   // what an acknowledgement to its clients outlives, where Options.Store has to keep something

	Proxy     *Proxy     // a PROXY header comes first; nil: none
	TLS       *TLS       // nil: none
	WebSocket *WebSocket // nil: MQTT is not inside WebSocket
	Detect    bool       // the first bytes tell TLS from none, and WebSocket from none, as far as these are set

	Identity             Identity // where the user name comes from
	UserName             string   // with IdentityTemplate: the template
	PasswordToo          bool     // where it comes from a certificate the password is asked for too, and a user name in CONNECT must be that one
	ClientIDFromUserName bool     // the Client Identifier is the user name, whatever CONNECT says
}

// A Durability is what survives once it is acknowledged.
type Durability = store.Durability

// The durabilities. A store may give more than is asked for.
const (
	Synced   = store.Synced   // a loss of power
	Written  = store.Written  // the end of the process
	Received = store.Received // nothing: the acknowledgement does not wait, the changes are written soon
)

// WebSocket says how MQTT inside WebSocket (MQTT 5.0 section 6) is served.
type WebSocket struct {
	Path         string        // of the request; "": /mqtt; "*": any
	Origins      []string      // pages that may connect, as "https://example.org"; empty: any. Clients that are no browsers send none and may
	PingInterval time.Duration // an idle connection is pinged, and closed after three without an answer; 0: 25 s; negative: never
}

// Proxy says whose PROXY headers (versions 1 and 2 of the HAProxy protocol) are
// believed. A connection without one is closed.
type Proxy struct {
	Trusted    []netip.Prefix // senders; empty: loopback addresses. Unix sockets are always trusted
	Version    uint8          // 1 or 2: only this one; 0: both
	RequireTLS bool           // the client must have come to the proxy by TLS, which only version 2 tells
}

func (w *WebSocket) transport() *transport.WebSocket {
	t := &transport.WebSocket{Path: w.Path, Origins: w.Origins, PingInterval: w.PingInterval, Protocols: []string{"mqtt", "mqttv3.1"}}
	switch w.Path {
	case "":
		t.Path = "/mqtt"
	case "*":
		t.Path = ""
	}
	if w.PingInterval == 0 {
		t.PingInterval = defaultPingInterval
	}
	return t
}

// defaultPingInterval is below the minute of silence after which most proxies close.
const defaultPingInterval = 25 * time.Second

func (p *Proxy) transport() *transport.Proxy {
	t := &transport.Proxy{Trusted: p.Trusted, Version: int(p.Version), RequireTLS: p.RequireTLS}
	if len(t.Trusted) == 0 {
		t.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	return t
}

// Identity says where a client's user name comes from. Where it comes from a
// certificate, a client without one is refused, and no password is asked for
// unless Listener.PasswordToo says so.
type Identity uint8

// The sources.
const (
	IdentityConnect    Identity = iota // the CONNECT packet
	IdentityCommonName                 // the CN of the client's certificate
	IdentitySubject                    // its whole subject, as RFC 2253 writes it
	IdentityTemplate                   // Listener.UserName, with ${cn}, ${subject}, ${o}, ${ou}, ${serial} (in hexadecimal), ${dns}, ${email} and ${uri} of the certificate, of each the first
)

// A door is a Listener in use. Immutable.
type door struct {
	Listener
	name  string
	via   *transport.Listener
	certs *certs.Set // nil without TLS
	meter *limits.Meter
}

const unixPrefix = "unix:"

// validate reports what is wrong with l.
func (l *Listener) validate() error {
	var errs []error
	bad := func(format string, a ...any) {
		errs = append(errs, fmt.Errorf("engine: listener %q: "+format, append([]any{l.label()}, a...)...))
	}
	switch {
	case l.Socket != nil && l.Address != "":
		bad("Address and Socket: want one of them")
	case l.Address == unixPrefix:
		bad("the path of the socket is missing")
	case l.Address != "" && !strings.HasPrefix(l.Address, unixPrefix):
		if _, _, err := net.SplitHostPort(l.Address); err != nil {
			bad("want host:port, or unix:PATH")
		}
	}
	if l.Address == "" && l.Socket == nil && l.Name == "" {
		bad("without an address it needs a name")
	}
	if l.MaxConnections < 0 {
		bad("MaxConnections %d: want above 0", l.MaxConnections)
	}
	if l.Durability > Received {
		bad("Durability %d: want up to %d", l.Durability, Received)
	}
	if l.Detect && l.TLS == nil && l.WebSocket == nil {
		bad("Detect has nothing to tell apart without TLS or WebSocket")
	}
	if l.Identity > IdentityTemplate {
		bad("Identity %d: want up to %d", l.Identity, IdentityTemplate)
	}
	if l.Identity == IdentityTemplate {
		if err := checkName(l.UserName); err != nil {
			bad("%w", err)
		}
	} else if l.UserName != "" {
		bad("UserName %q is for IdentityTemplate", l.UserName)
	}
	if l.PasswordToo && l.Identity == IdentityConnect {
		bad("PasswordToo is for user names from certificates")
	}
	if l.Identity != IdentityConnect && l.Proxy == nil && (l.TLS == nil || l.TLS.ClientCertificates == NoClientCertificate) {
		bad("a user name from certificates needs TLS that asks for them, or a proxy that tells")
	}
	if l.TLS != nil {
		l.TLS.validate(bad)
	}
	if w := l.WebSocket; w != nil && w.Path != "" && w.Path != "*" && !strings.HasPrefix(w.Path, "/") {
		bad("WebSocket path %q: want it to begin with /", w.Path)
	}
	if p := l.Proxy; p != nil && (p.Version > 2 || p.RequireTLS && p.Version == 1) {
		bad("PROXY version %d: want 1, 2 or 0 for both; RequireTLS needs 2", p.Version)
	}
	if l.ConnectRate < 0 || l.ConnectRate > limits.MaxRate {
		bad("ConnectRate %d: want up to %d, or 0 for no bound", l.ConnectRate, limits.MaxRate)
	}
	errs = append(errs, l.Rates.validate(fmt.Sprintf("listener %q: Rates", l.label())))
	return errors.Join(errs...)
}

// label names l to users.
func (l *Listener) label() string {
	switch {
	case l.Name != "":
		return l.Name
	case l.Socket != nil:
		return l.Socket.Addr().String()
	default:
		return l.Address
	}
}

// newDoor makes l ready for the transport.
func newDoor(l Listener) (*door, error) {
	in := &door{Listener: l, name: l.label(), meter: new(limits.Meter)}
	in.via = &transport.Listener{Address: l.Address, Socket: l.Socket, SocketMode: l.SocketMode, MaxConnections: l.MaxConnections,
		Owner: in, Name: in.name, Detect: l.Detect}
	if l.Proxy != nil {
		in.via.Proxy = l.Proxy.transport()
	}
	if l.WebSocket != nil {
		in.via.WebSocket = l.WebSocket.transport()
	}
	if l.TLS != nil {
		var err error
		if in.certs, err = certs.Load(l.TLS.files(l.WebSocket != nil, l.WebSocket == nil || l.Detect)); err != nil {
			return nil, fmt.Errorf("engine: listener %q: %w", in.name, err)
		}
		in.via.TLS = in.certs.Config
	}
	return in, nil
}

// certificateNotice is how long before its end a certificate is complained of
// when a listener opens.
const certificateNotice = 14 * 24 * time.Hour

// addListener puts l among the listeners under a name that is free: two without
// a name may have the same address with port 0.
func (b *Broker) addListener(l Listener) (*door, error) {
	in, err := newDoor(l)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.listeners) >= maxListeners {
		return nil, fmt.Errorf("engine: %d listeners: want up to %d", len(b.listeners)+1, maxListeners)
	}
	for i := 2; b.listenerLocked(in.name) != nil; i++ {
		if l.Name != "" {
			return nil, fmt.Errorf("engine: two listeners are named %q", l.Name)
		}
		in.name = fmt.Sprintf("%s#%d", l.label(), i)
	}
	b.listeners = append(b.listeners, in)
	if in.certs != nil && time.Until(in.certs.NotAfter()) < certificateNotice {
		b.log.Warn("a certificate runs out soon, or has", "listener", in.name, "certificate until", in.certs.NotAfter())
	}
	return in, nil
}

func (b *Broker) listenerLocked(name string) *door {
	for _, in := range b.listeners {
		if in.name == name {
			return in
		}
	}
	return nil
}

func (b *Broker) removeListener(in *door) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.listeners {
		if other == in {
			b.listeners = append(b.listeners[:i:i], b.listeners[i+1:]...)
			return
		}
	}
}

func (b *Broker) findListener(name string) (*door, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if in := b.listenerLocked(name); in != nil && b.server != nil {
		return in, nil
	}
	return nil, fmt.Errorf("engine: no listener %q is open", name)
}

// OpenListener opens a further listener while the broker runs, and returns
// what it listens on, nil where it has no address. Any goroutine.
func (b *Broker) OpenListener(l Listener) (net.Addr, error) {
	if err := l.validate(); err != nil {
		return nil, err
	}
	if b.server == nil {
		return nil, errNotStarted
	}
	in, err := b.addListener(l)
	if err != nil {
		return nil, err
	}
	addr, err := b.server.Open(in.via)
	if err != nil {
		b.removeListener(in)
		return nil, err
	}
	b.tellListener(in, addr, true)
	return addr, nil
}

var errNotStarted = errors.New("engine: the broker was not started")

// CloseListener closes the listener of this name, also one that was there from
// the start: its address is free when the call returns. Clients that came by
// it stay. Any goroutine.
func (b *Broker) CloseListener(name string) error {
	in, err := b.findListener(name)
	if err != nil {
		return err
	}
	addr := b.server.Addr(in.via)
	b.removeListener(in)
	err = b.server.Close(in.via)
	b.tellListener(in, addr, false)
	return err
}

// Adopt serves c as a connection by the listener of this name. It may be of
// any kind: TCP and unix connections move to an event loop at once; for
// others, such as tls.Conn and net.Pipe, two goroutines carry the bytes. The
// broker owns c from then on and closes it, also when Adopt fails. Any goroutine.
func (b *Broker) Adopt(name string, c net.Conn) error {
	in, err := b.findListener(name)
	if err != nil {
		c.Close()
		return err
	}
	return b.server.Adopt(in.via, c)
}

// ListenerStatus says how one listener stands.
type ListenerStatus struct {
	Name        string
	Addr        net.Addr // nil where it has no address
	Connections int      // open ones that came by it
	Failed      uint64   // ended for what they sent below MQTT: no good PROXY header, TLS or WebSocket

	CertificateNotAfter time.Time // when the first certificate runs out; zero without TLS
	CertificateFailure  error     // why the last reload was refused; nil when it was not
}

// Listeners are those that are open, the options' first. Any goroutine.
func (b *Broker) Listeners() []ListenerStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.server == nil {
		return nil
	}
	var all []ListenerStatus
	for _, in := range b.listeners {
		st := ListenerStatus{Name: in.name, Addr: b.server.Addr(in.via)}
		st.Connections, st.Failed = b.server.By(in.via)
		if in.certs != nil {
			st.CertificateNotAfter, st.CertificateFailure = in.certs.NotAfter(), in.certs.Failure()
		}
		all = append(all, st)
	}
	return all
}
