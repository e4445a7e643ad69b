package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/net/http/httpproxy"
	"golang.org/x/net/proxy"
)

// Dial opens a connection as a client does without Options.Dial: by the proxy that the environment names (an HTTP proxy of
// HTTPS_PROXY or ALL_PROXY, or a SOCKS proxy of ALL_PROXY; NO_PROXY counts for both), or directly.
func Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if network == "unix" {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	cfg := httpproxy.FromEnvironment()
	if all := os.Getenv("ALL_PROXY") + os.Getenv("all_proxy"); cfg.HTTPSProxy == "" && strings.HasPrefix(all, "http") {
		cfg.HTTPSProxy = all
	}
	if !strings.HasPrefix(cfg.HTTPSProxy, "http") { // none, or SOCKS
		return proxy.Dial(ctx, network, addr)
	}
	by, err := cfg.ProxyFunc()(&url.URL{Scheme: "https", Host: addr})
	if err != nil {
		return nil, fmt.Errorf("proxy of the environment: %w", err)
	}
	if by == nil {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	return dialThrough(ctx, by, addr)
}

// dialThrough asks an HTTP proxy for a connection to addr (RFC 9110 section 9.3.6).
func dialThrough(ctx context.Context, by *url.URL, addr string) (conn net.Conn, err error) {
	host := by.Host
	if by.Port() == "" {
		host = net.JoinHostPort(by.Hostname(), map[string]string{"http": "80", "https": "443"}[by.Scheme])
	}
	if conn, err = new(net.Dialer).DialContext(ctx, "tcp", host); err != nil {
		return nil, fmt.Errorf("proxy %s: %w", by.Host, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	raw := conn
	if by.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: by.Hostname(), MinVersion: tls.VersionTLS12})
	}
	err = connectThrough(conn, by.User, addr)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("proxy %s: %w", by.Host, err)
	}
	return conn, nil
}

func connectThrough(conn net.Conn, user *url.Userinfo, addr string) error {
	r := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if user != nil {
		password, _ := user.Password()
		r.SetBasicAuth(user.Username(), password)
		r.Header["Proxy-Authorization"] = r.Header["Authorization"]
		delete(r.Header, "Authorization")
	}
	if err := r.Write(conn); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	answer, err := http.ReadResponse(in, r)
	if err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("%s for %s", answer.Status, addr)
	}
	if in.Buffered() > 0 {
		return errors.New("it sends before it was spoken to")
	}
	return nil
}
