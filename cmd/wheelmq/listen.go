package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/wheelmq/wheelmq/engine"
)

// resolveTimeout bounds the look-up of one host name at start.
const resolveTimeout = 5 * time.Second

// An endpoint is one --listen value, read but not yet resolved.
type endpoint struct {
	scheme string // tcp, tls, ws, wss or unix
	host   string // name or literal address without brackets; empty: every address of the machine; of unix the path
	port   uint16 // 0: the system picks one
	path   string // of ws and wss; empty: the engine's default
}

func (e endpoint) String() string {
	text := e.host
	if e.scheme != "unix" {
		text = net.JoinHostPort(e.host, strconv.Itoa(int(e.port))) + e.path
	}
	if e.scheme == "tcp" {
		return text
	}
	return e.scheme + "://" + text
}

// schemes are the names that users have for ways to connect.
var schemes = map[string]string{"tcp": "tcp", "mqtt": "tcp", "tls": "tls", "mqtts": "tls", "ssl": "tls", "ws": "ws", "wss": "wss", "unix": "unix"}

// parseEndpoint reads host:port, or scheme://host:port, for WebSocket with a path behind it, or unix://PATH.
func parseEndpoint(text string) (endpoint, error) {
	e := endpoint{scheme: "tcp"}
	rest := text
	if scheme, after, found := strings.Cut(text, "://"); found {
		e.scheme, rest = schemes[strings.ToLower(scheme)], after
		if e.scheme == "" {
			return endpoint{}, fmt.Errorf("%q: no scheme %q: want tcp, mqtt, tls, mqtts, ws, wss or unix", text, scheme)
		}
	}
	if e.scheme == "unix" {
		if e.host = rest; rest == "" {
			return endpoint{}, fmt.Errorf("%q: the path of the socket is missing", text)
		}
		return e, nil
	}
	if e.scheme == "ws" || e.scheme == "wss" {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			rest, e.path = rest[:i], rest[i:]
		}
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return endpoint{}, fmt.Errorf("%q is not host:port (IPv6 addresses need brackets, as in [::1]:1883)", text)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return endpoint{}, fmt.Errorf("%q: the port must be a number from 0 to 65535", text)
	}
	if strings.ContainsAny(host, "/@ ") {
		return endpoint{}, fmt.Errorf("%q: %q is not a host", text, host)
	}
	e.host, e.port = host, uint16(n)
	return e, nil
}

// A resolver turns endpoints into the listeners of the engine; its fields are the two questions it asks the machine.
type resolver struct {
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	ipv6   func() error // nil when [::1] can be listened on
}

func newResolver() resolver {
	return resolver{
		lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
		ipv6: func() error {
			l, err := net.Listen("tcp6", "[::1]:0")
			if err != nil {
				return err
			}
			return l.Close()
		},
	}
}

// defaults are the listeners when nothing was asked for: port 1883 of the loopback addresses. note says what is missing.
func (r resolver) defaults() (listeners []engine.Listener, note string) {
	listeners = []engine.Listener{{Address: "127.0.0.1:1883", Anonymous: true, Sys: true}}
	if err := r.ipv6(); err != nil {
		return listeners, "[::1]:1883 is not open: this machine has no IPv6 loopback address"
	}
	return append(listeners, engine.Listener{Address: "[::1]:1883", Anonymous: true, Sys: true}), ""
}

// A policy says what listeners ask of clients.
type policy struct {
	anonymous bool        // clients without a password may come in from anywhere
	passwords bool        // clients are known by passwords or certificates
	tls       *engine.TLS // of listeners with TLS; nil: none can be opened
}

// listeners resolves endpoints. An address that others can reach is refused where nothing is asked of clients, unless
// that is said to be wanted.
func (r resolver) listeners(endpoints []endpoint, p policy) ([]engine.Listener, error) {
	var listeners []engine.Listener
	seen := make(map[string]bool)
	for _, e := range endpoints {
		l := engine.Listener{}
		if e.scheme == "ws" || e.scheme == "wss" {
			l.WebSocket = &engine.WebSocket{Path: e.path}
		}
		if e.scheme == "tls" || e.scheme == "wss" {
			if p.tls == nil {
				return nil, configurationError("--listen %s: TLS needs a certificate: --cert FILE --key FILE", e)
			}
			l.TLS = p.tls
		}
		addresses, err := r.resolve(e)
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			if !a.loopback && !p.anonymous && !p.passwords {
				return nil, refuseOpen(e)
			}
			if seen[a.text] && (e.port != 0 || e.scheme == "unix") {
				return nil, configurationError("--listen %s: %s is listed twice", e, a.text)
			}
			seen[a.text] = true
			l.Address = a.text
			l.Anonymous = p.anonymous || a.loopback && !p.passwords
			l.Sys = a.loopback // figures about the broker are not for everyone who comes in
			listeners = append(listeners, l)
		}
	}
	return listeners, nil
}

func refuseOpen(e endpoint) error {
	return configurationError(`--listen %s can be reached from other machines, and nothing is asked of clients:
anyone who reaches it could read and write every topic.
With users and passwords:           wheelmq passwd -c passwords NAME
                                    wheelmq --listen %s --password-file passwords
For this machine only:              wheelmq --listen 127.0.0.1:%d
If it is to be open, say so:        wheelmq --listen %s --allow-anonymous`, e, e, e.port, e)
}

// An address is one literal address of an endpoint.
type address struct {
	text     string // host:port as the engine takes it
	loopback bool   // only this machine can reach it
}

func (r resolver) resolve(e endpoint) ([]address, error) {
	if e.scheme == "unix" {
		return []address{{text: "unix:" + e.host, loopback: true}}, nil
	}
	if e.host == "" { // every address, IPv4 and IPv6 by one socket where there is IPv6
		if r.ipv6() != nil {
			return []address{literal(netip.IPv4Unspecified(), e.port)}, nil
		}
		return []address{{text: net.JoinHostPort("", strconv.Itoa(int(e.port)))}}, nil
	}
	if ip, err := netip.ParseAddr(e.host); err == nil {
		return []address{literal(ip, e.port)}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	ips, err := r.lookup(ctx, e.host)
	if err == nil && len(ips) == 0 {
		err = errors.New("the name has no address")
	}
	if err != nil {
		return nil, systemError("--listen %s: %w", e, err)
	}
	var addresses []address
	seen := make(map[address]bool)
	for _, ip := range ips {
		a := literal(ip, e.port)
		if ip.Is6() && ip.IsLoopback() && r.ipv6() != nil || seen[a] {
			continue // a hosts file often names ::1 where there is none
		}
		seen[a] = true
		addresses = append(addresses, a)
	}
	if len(addresses) == 0 {
		return nil, systemError("--listen %s: this machine has no IPv6 loopback address", e)
	}
	return addresses, nil
}

func literal(ip netip.Addr, port uint16) address {
	ip = ip.Unmap()
	return address{text: netip.AddrPortFrom(ip, port).String(), loopback: ip.IsLoopback()}
}
