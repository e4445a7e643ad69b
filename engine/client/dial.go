package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// A server is a URL of Options.Servers, taken apart.
type server struct {
	text          string
	network, addr string
	tls, ws       bool
	url           *url.URL
}

var ports = map[string]string{"mqtt": "1883", "tcp": "1883", "mqtts": "8883", "tls": "8883", "ssl": "8883", "ws": "80", "wss": "443"}

func parseServer(text string) (server, error) {
	if !strings.Contains(text, "://") {
		text = "mqtt://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return server{}, fmt.Errorf("server %q: %w", text, err)
	}
	s := server{text: text, network: "tcp", url: u}
	if u.Scheme == "unix" {
		if s.network, s.addr = "unix", u.Path; u.Path == "" {
			return server{}, fmt.Errorf("server %q: the path of the socket is missing", text)
		}
		return s, nil
	}
	port, ok := ports[u.Scheme]
	if !ok {
		return server{}, fmt.Errorf("server %q: want mqtt, mqtts, ws, wss or unix in front of ://", text)
	}
	if u.Hostname() == "" {
		return server{}, fmt.Errorf("server %q: the host is missing", text)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	s.addr = net.JoinHostPort(u.Hostname(), port)
	s.tls = u.Scheme == "mqtts" || u.Scheme == "tls" || u.Scheme == "ssl" || u.Scheme == "wss"
	s.ws = u.Scheme == "ws" || u.Scheme == "wss"
	return s, nil
}

// dial opens a connection on which MQTT is spoken.
func (o *Options) dial(ctx context.Context, s server) (net.Conn, error) {
	open := o.Dial
	if open == nil {
		open = Dial
	}
	conn, err := open(ctx, s.network, s.addr)
	if err != nil {
		return nil, err
	}
	if s.tls {
		cfg := o.TLS.Clone()
		if cfg == nil {
			cfg = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if cfg.ServerName == "" {
			cfg.ServerName = s.url.Hostname()
		}
		if len(cfg.NextProtos) == 0 && !s.ws {
			cfg.NextProtos = []string{"mqtt"}
		}
		t := tls.Client(conn, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = t
	}
	if s.ws {
		w, err := upgrade(ctx, conn, s.url, o.Header, o.Version == V31)
		if err != nil {
			conn.Close()
			return nil, err
		}
		conn = w
	}
	return conn, nil
}

func upgrade(ctx context.Context, conn net.Conn, u *url.URL, h http.Header, v31 bool) (net.Conn, error) {
	d := ws.Dialer{Protocols: []string{"mqtt"}, Header: ws.HandshakeHeaderHTTP(h)}
	if v31 {
		d.Protocols = []string{"mqttv3.1"}
	}
	if t, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(t)
	}
	to := *u
	if to.Path == "" {
		to.Path = "/mqtt"
	}
	br, hs, err := d.Upgrade(conn, &to)
	if err != nil {
		return nil, fmt.Errorf("WebSocket: %w", err)
	}
	if hs.Protocol == "" {
		return nil, errors.New("WebSocket: the server does not speak MQTT there")
	}
	w := &webSocket{Conn: conn, frames: wsutil.Reader{Source: conn, State: ws.StateClientSide, MaxFrameSize: maxFrame}}
	if br != nil { // what came behind the answer
		w.frames.Source = br
	}
	w.control = wsutil.ControlFrameHandler(conn, ws.StateClientSide)
	w.frames.OnIntermediate = w.control
	return w, nil
}

// maxFrame bounds what a server may announce.
const maxFrame = 1 << 28

// A webSocket carries the bytes of MQTT in binary frames. One goroutine reads,
// one writes; a ping is answered by the reader. Each frame is one write.
type webSocket struct {
	net.Conn
	frames  wsutil.Reader
	control wsutil.FrameHandlerFunc
	inside  bool // a binary frame
}

func (w *webSocket) Read(p []byte) (int, error) {
	for {
		if !w.inside {
			h, err := w.frames.NextFrame()
			if err != nil {
				return 0, err
			}
			switch {
			case h.OpCode.IsControl():
				if err := w.control(h, &w.frames); err != nil {
					return 0, err
				}
				continue
			case h.OpCode != ws.OpBinary && h.OpCode != ws.OpContinuation:
				return 0, errors.New("WebSocket: text where MQTT needs binary frames")
			}
			w.inside = true
		}
		n, err := w.frames.Read(p)
		if errors.Is(err, io.EOF) {
			w.inside, err = false, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (w *webSocket) Write(p []byte) (int, error) {
	frame, err := ws.CompileFrame(ws.MaskFrame(ws.NewBinaryFrame(p)))
	if err == nil {
		_, err = w.Conn.Write(frame)
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// TokenFile is for Options.Credentials: the password is what the file says at
// each connect, as Kubernetes projects service-account tokens.
func TokenFile(userName, path string) func(context.Context) (string, []byte, error) {
	return func(context.Context) (string, []byte, error) {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", nil, fmt.Errorf("client: token: %w", err)
		}
		return userName, []byte(strings.TrimSpace(string(b))), nil
	}
}
