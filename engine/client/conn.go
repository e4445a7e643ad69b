package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/inflight"
)

// A conn is one connection.
type conn struct {
	c     *Client
	net   net.Conn
	clean bool // CONNECT asked for a new session
	info  Connected

	// under c.mu
	out      []byte // to be written
	spare    []byte
	writing  bool          // the writer is at it, and looks again before it sleeps
	drained  chan struct{} // closed and replaced when the output was taken
	leaving  bool          // DISCONNECT is in out: close behind it
	failed   error
	quota    int // QoS 1 and 2 that the broker takes at once
	aliases  map[string]uint16
	props    codec.Properties // scratch
	topic    []byte           // scratch
	exchange bool             // a re-authentication is under way

	wake chan struct{} // the writer has something to do
	done chan struct{} // closed by close
	gone chan struct{} // closed when reader and writer have ended
	once sync.Once

	later    []uint16       // to be sent again as the broker takes more; under c.mu
	acks     []*pendingAck  // of QoS 1 and 2 that arrived, in their order; under c.mu
	inbound  int            // QoS 1 and 2 of the broker that are not through; under c.mu
	handling inflight.IDSet // QoS 2 that arrived and waits for its handler; under c.mu
	limit    time.Duration  // of silence; 0: none
	in       []byte         // read and not parsed
	aliasIn  []string
	names    map[string]string // topic names that arrived, by themselves
}

// namesKept bounds conn.names.
const namesKept = 4096

// connect opens a connection and says CONNECT.
func (c *Client) connect(ctx context.Context, s server) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	user, password := c.o.UserName, c.o.Password
	if c.o.Credentials != nil {
		var err error
		if user, password, err = c.o.Credentials(ctx); err != nil {
			return nil, err
		}
	}
	var auth []byte
	if c.o.Auth != nil {
		var err error
		if auth, err = c.o.Auth.Begin(ctx); err != nil {
			return nil, err
		}
	}
	raw, err := c.o.dial(ctx, s)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	_ = raw.SetDeadline(time.Now().Add(c.o.Timeout))
	cn := &conn{c: c, net: raw, drained: make(chan struct{}), wake: make(chan struct{}, 1), done: make(chan struct{}), gone: make(chan struct{}),
		in: make([]byte, 0, 32<<10), names: make(map[string]string)}
	if c.o.Version == V5 {
		cn.aliasIn = make([]string, int(c.o.TopicAliasMaximum)+1)
	}
	packet, clean := c.connectPacket(user, password, auth)
	cn.clean = clean
	if _, err := raw.Write(packet); err != nil {
		raw.Close()
		return nil, err
	}
	c.sent(codec.CONNECT, packet)
	if err := cn.handshake(); err != nil {
		raw.Close()
		if ctx.Err() != nil && !errors.As(err, new(*Refused)) {
			err = fmt.Errorf("no answer to CONNECT: %w", ctx.Err())
		}
		return nil, err
	}
	cn.info.Server = s.text
	_ = raw.SetDeadline(time.Time{})
	return cn, nil
}

func (c *Client) sent(t codec.PacketType, packet []byte) {
	if c.o.Tap != nil {
		c.o.Tap(true, packet)
	}
	if c.o.Metrics != nil {
		c.o.Metrics.Sent(t, len(packet))
	}
}

// connectPacket encodes CONNECT; clean is its Clean Start.
func (c *Client) connectPacket(user string, password, auth []byte) (packet []byte, clean bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := codec.Connect{Version: c.o.Version, CleanStart: c.clean || c.clientID == "", KeepAlive: uint16((c.o.KeepAlive + time.Second - 1) / time.Second),
		ClientID: []byte(c.clientID)}
	if c.o.Version != V5 {
		p.CleanStart = c.o.CleanStart // Clean Session: none is kept either
	}
	if user != "" || password != nil {
		p.HasUserName, p.UserName = user != "" || c.o.Version != V5, []byte(user)
		p.HasPassword, p.Password = password != nil, password
	}
	if w := c.o.Will; w != nil {
		p.Will = &codec.Will{Topic: []byte(w.Topic), Payload: w.Payload, QoS: w.QoS, Retain: w.Retain}
		if c.o.Version == V5 {
			p.Will.Properties = w.appendProperties(nil)
			p.Will.DelayInterval = w.Delay
			if w.Expiry > 0 {
				p.Will.HasMessageExpiry, p.Will.MessageExpiry = true, seconds(w.Expiry)
			}
		}
	}
	if c.o.Version == V5 {
		add := func(id codec.PropertyID, v, but uint32) {
			if v != but {
				p.Properties = codec.AppendUint(p.Properties, id, v)
			}
		}
		add(codec.SessionExpiryInterval, c.o.SessionExpiry, 0)
		add(codec.ReceiveMaximum, uint32(c.o.ReceiveMaximum), 65535)
		add(codec.MaximumPacketSize, c.o.MaximumPacketSize, 0)
		add(codec.TopicAliasMaximum, uint32(c.o.TopicAliasMaximum), 0)
		add(codec.RequestResponseInformation, 1, 0)
		if c.o.Auth != nil {
			p.Properties = codec.AppendBytes(p.Properties, codec.AuthenticationMethod, c.o.Auth.Method())
			p.Properties = codec.AppendBytes(p.Properties, codec.AuthenticationData, auth)
		}
		p.Properties = appendUser(p.Properties, c.o.Properties)
	}
	return p.Append(nil), p.CleanStart
}

// handshake reads until CONNACK.
func (cn *conn) handshake() error {
	for {
		h, body, err := cn.next()
		if err != nil {
			return err
		}
		switch h.Type {
		case codec.CONNACK:
			return cn.connack(body)
		case codec.AUTH:
			if err := cn.authStep(body); err != nil {
				return err
			}
			cn.c.mu.Lock()
			out := cn.out
			cn.out = nil
			cn.c.mu.Unlock()
			if _, err := cn.net.Write(out); err != nil {
				return err
			}
			cn.c.sent(codec.AUTH, out)
		default:
			return &codec.Error{Code: codec.ProtocolError, Detail: h.Type.String() + " in the place of CONNACK"}
		}
	}
}

// authStep answers the broker's AUTH.
func (cn *conn) authStep(body []byte) error {
	if cn.c.o.Auth == nil {
		return &codec.Error{Code: codec.ProtocolError, Detail: "AUTH without an authentication method"}
	}
	a, err := codec.ParseAuth(body, codec.FromServer)
	if err != nil {
		return err
	}
	if method, _ := a.Properties.Bytes(codec.AuthenticationMethod); string(method) != cn.c.o.Auth.Method() { // [MQTT-4.12.0-5]
		return &codec.Error{Code: codec.ProtocolError, Detail: "AUTH with another authentication method"}
	}
	data, _ := a.Properties.Bytes(codec.AuthenticationData)
	answer, err := cn.c.o.Auth.Step(data, a.Code == codec.Success)
	if err != nil {
		return err
	}
	cn.c.mu.Lock()
	defer cn.c.mu.Unlock()
	if a.Code == codec.Success {
		cn.exchange = false
		return nil
	}
	cn.appendAuth(codec.ContinueAuthentication, answer)
	return nil
}

// appendAuth puts an AUTH into the output. Under mu.
func (cn *conn) appendAuth(code codec.ReasonCode, data []byte) {
	a := codec.Auth{Code: code}
	a.Properties = codec.AppendBytes(a.Properties, codec.AuthenticationMethod, cn.c.o.Auth.Method())
	if len(data) > 0 {
		a.Properties = codec.AppendBytes(a.Properties, codec.AuthenticationData, data)
	}
	cn.out = a.Append(cn.out)
}

func (cn *conn) connack(body []byte) error {
	v := cn.c.o.Version
	a, err := codec.ParseConnack(body, v)
	if err != nil {
		return err
	}
	if a.Code != codec.Success {
		server, _ := a.Properties.Bytes(codec.ServerReference)
		return &Refused{What: "CONNECT", Code: a.Code, Reason: reasonString(a.Properties), Server: string(server)}
	}
	if a.SessionPresent && cn.clean { // [MQTT-3.2.2-4]
		return &codec.Error{Code: codec.ProtocolError, Detail: "a session where a new one was asked for"}
	}
	o := &cn.c.o
	if method, _ := a.Properties.Bytes(codec.AuthenticationMethod); o.Auth != nil && string(method) != o.Auth.Method() { // [MQTT-4.12.0-5]
		return &codec.Error{Code: codec.ProtocolError, Detail: "CONNACK with another authentication method"}
	}
	in := &cn.info
	*in = Connected{SessionPresent: a.SessionPresent, KeepAlive: o.KeepAlive, SessionExpiry: o.SessionExpiry, MaximumQoS: 2, RetainAvailable: true,
		ReceiveMaximum: 65535, SharedAvailable: true, WildcardAvailable: true, IdentifiersAvailable: true, Properties: userProperties(a.Properties)}
	for p := range a.Properties.All() {
		switch p.ID {
		case codec.ServerKeepAlive:
			in.KeepAlive = time.Duration(p.Uint) * time.Second
		case codec.SessionExpiryInterval:
			in.SessionExpiry = p.Uint
		case codec.MaximumQoS:
			in.MaximumQoS = codec.QoS(p.Uint)
		case codec.RetainAvailable:
			in.RetainAvailable = p.Uint == 1
		case codec.MaximumPacketSize:
			in.MaximumPacketSize = p.Uint
		case codec.ReceiveMaximum:
			in.ReceiveMaximum = uint16(p.Uint)
		case codec.TopicAliasMaximum:
			in.TopicAliasMaximum = uint16(p.Uint)
		case codec.SharedSubscriptionAvailable:
			in.SharedAvailable = p.Uint == 1
		case codec.WildcardSubscriptionAvailable:
			in.WildcardAvailable = p.Uint == 1
		case codec.SubscriptionIdentifiersAvailable:
			in.IdentifiersAvailable = p.Uint == 1
		case codec.ResponseInformation:
			in.ResponseInfo = string(p.Bytes)
		case codec.AssignedClientIdentifier:
			in.ClientID = string(p.Bytes)
		case codec.AuthenticationData:
			if o.Auth != nil {
				if _, err := o.Auth.Step(p.Bytes, true); err != nil {
					return err
				}
			}
		}
	}
	cn.c.mu.Lock()
	defer cn.c.mu.Unlock()
	if in.ClientID == "" {
		in.ClientID = cn.c.clientID
	} else {
		cn.c.clientID = in.ClientID
	}
	cn.quota = int(min(in.ReceiveMaximum, o.MaxInflight))
	return nil
}

// next reads one packet; body is borrowed until the next call.
func (cn *conn) next() (codec.Header, []byte, error) {
	for {
		h, ok, err := codec.ReadHeader(cn.in)
		if err != nil {
			return h, nil, err
		}
		if ok {
			if size := h.Size + h.Remaining; uint32(size) > cn.c.o.MaximumPacketSize {
				return h, nil, &codec.Error{Code: codec.PacketTooLarge, Detail: fmt.Sprintf("a packet of %d bytes", size)}
			} else if len(cn.in) >= size {
				packet := cn.in[:size:size]
				cn.in = cn.in[size:]
				if err := h.CheckFlags(cn.c.o.Version); err != nil {
					return h, nil, err
				}
				if cn.c.o.Tap != nil {
					cn.c.o.Tap(false, packet)
				}
				if cn.c.o.Metrics != nil {
					cn.c.o.Metrics.Received(h.Type, size)
				}
				return h, packet[h.Size:], nil
			}
		}
		if err := cn.fill(h, ok); err != nil {
			return h, nil, err
		}
	}
}

// readBuffer is how much is read at once.
const readBuffer = 32 << 10

// fill reads more. A length that was announced costs nothing before its bytes come.
func (cn *conn) fill(h codec.Header, known bool) error {
	have := len(cn.in)
	if cap(cn.in)-have < readBuffer/2 {
		size := max(readBuffer, 2*have)
		if known {
			size = min(max(readBuffer, h.Size+h.Remaining), max(readBuffer, 2*have))
		}
		grown := make([]byte, have, max(size, have+readBuffer/2))
		copy(grown, cn.in)
		cn.in = grown
	}
	if cn.limit > 0 {
		_ = cn.net.SetReadDeadline(time.Now().Add(cn.limit))
	}
	n, err := cn.net.Read(cn.in[have:cap(cn.in)])
	cn.in = cn.in[:have+n]
	if n == 0 && err == nil {
		err = io.ErrNoProgress
	}
	if n > 0 {
		return nil
	}
	return err
}

// poke has the writer write. Under mu.
func (cn *conn) poke() {
	if !cn.writing {
		cn.writing = true
		select {
		case cn.wake <- struct{}{}:
		default:
		}
	}
}

// full is closed when there is room in the output again. Under mu.
func (cn *conn) full() <-chan struct{} { return cn.drained }

// idle reports whether everything is written. Under mu.
func (cn *conn) idle() bool { return len(cn.out) == 0 && !cn.writing }

// write writes the output, and PINGREQ when nothing else was to write.
func (cn *conn) write() error {
	c := cn.c
	interval := cn.info.KeepAlive
	var ping <-chan time.Time
	var timer *time.Timer
	if interval > 0 {
		timer = time.NewTimer(interval)
		defer timer.Stop()
		ping = timer.C
	}
	for {
		select {
		case <-cn.wake:
		case <-cn.done:
			return nil
		case <-ping:
			c.mu.Lock()
			if len(cn.out) == 0 {
				cn.out = codec.AppendPingreq(cn.out)
			}
			cn.writing = true
			c.mu.Unlock()
		}
		for {
			c.mu.Lock()
			out, leaving := cn.out, cn.leaving
			if len(out) == 0 {
				cn.writing = false
				c.mu.Unlock()
				break
			}
			cn.out, cn.spare = cn.spare[:0], nil
			if len(out) >= outputHigh {
				close(cn.drained)
				cn.drained = make(chan struct{})
			}
			cn.pump()
			c.mu.Unlock()
			if err := c.save(); err != nil {
				return err
			}
			if _, err := cn.net.Write(out); err != nil {
				return err
			}
			cn.tapped(out)
			c.mu.Lock()
			if cap(out) <= 4*outputHigh {
				cn.spare = out
			}
			c.mu.Unlock()
			if leaving {
				return ErrClosed
			}
		}
		if timer != nil {
			timer.Reset(interval)
		}
	}
}

// tapped tells taps and metrics of each packet that was written.
func (cn *conn) tapped(out []byte) {
	c := cn.c
	if c.o.Tap == nil && c.o.Metrics == nil {
		return
	}
	for len(out) > 0 {
		h, ok, err := codec.ReadHeader(out)
		if size := h.Size + h.Remaining; ok && err == nil && size <= len(out) {
			c.sent(h.Type, out[:size])
			out = out[size:]
			continue
		}
		return
	}
}

// read handles packets until the connection ends.
func (cn *conn) read() error {
	if cn.info.KeepAlive > 0 {
		cn.limit = cn.info.KeepAlive + cn.c.o.Timeout // PINGREQ goes out after the one, its answer comes within the other
	}
	for {
		h, body, err := cn.next()
		if err != nil {
			return err
		}
		if err := cn.packet(h, body); err != nil {
			return err
		}
	}
}

// close ends the connection; err is why.
func (cn *conn) close(err error) {
	cn.once.Do(func() {
		cn.c.mu.Lock()
		cn.failed = err
		cn.c.mu.Unlock()
		close(cn.done)
		cn.net.Close()
	})
}
