// Package webhook lets a service of the user's decide who comes in, by HTTP.
//
// The broker posts, for each CONNECT, a [Request] as JSON, and reads a [Response]:
//
//	POST /mqtt HTTP/1.1
//	{"client_id": "d1", "user_name": "ada", "password": "secret", "version": "5.0",
//	 "peer": "192.0.2.7:51230", "listener": "door", "will_topic": "d1/state"}
//
//	200 OK
//	{"result": "allow", "grants": [{"allow": ["publish"], "topics": ["devices/%c/#"]}],
//	 "expires_in": 3600, "max_queued_messages": 100}
//
// The answer carries all rights of the client, so that nothing is asked while
// messages flow. result is allow, deny, or ignore for no opinion. Anything else
// than 200 with a result is a failure of the service: the client is refused with
// 0x88, or, where the service let it in before, comes in by that answer for
// [Config].Stale.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/auth"
	"github.com/wheelmq/wheelmq/engine/auth/internal/remote"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// Config says whom to ask.
type Config struct {
	URL        string
	CAFile     string        // PEM: who signs the service's certificate; "": the system's
	CertFile   string        // PEM: our own certificate, with KeyFile; "": none
	KeyFile    string        // PEM
	Token      string        // sent as bearer token; "": none
	Timeout    time.Duration // 0: 3 s
	AtOnce     int           // requests under way; clients beyond are refused with 0x88; 0: 32
	Failures   int           // in a row, after which the service is left alone; 0: 5
	LeaveAlone time.Duration // for so long; 0: 5 s
	Fresh      time.Duration // an answer allow counts for so long without asking; 0: each CONNECT is asked about
	Stale      time.Duration // and so long while the service fails; 0: not
	Remembered int           // answers; 0: 100,000
}

// A Request is what the service is asked.
type Request struct {
	ClientID   string `json:"client_id"`
	UserName   string `json:"user_name,omitempty"`
	Password   string `json:"password,omitempty"`
	Version    string `json:"version"`
	Peer       string `json:"peer,omitempty"`
	Listener   string `json:"listener"`
	TLS        bool   `json:"tls"`
	Certified  bool   `json:"certified"` // user_name is from a certificate that was verified
	WillTopic  string `json:"will_topic,omitempty"`
	WillRetain bool   `json:"will_retain,omitempty"`
}

// A Response is its answer. What is left out stays as the broker's options say.
type Response struct {
	Result string           `json:"result"`           // allow, deny, ignore
	Code   codec.ReasonCode `json:"code,omitempty"`   // of CONNACK, with deny; 0: 135, Not authorized
	Reason string           `json:"reason,omitempty"` // Reason String

	UserName          string       `json:"user_name,omitempty"`  // in place of the one that was sent
	ClientID          string       `json:"client_id,omitempty"`  // in place of the one that was sent
	Grants            []auth.Grant `json:"grants,omitempty"`     // rights; an empty list: none at all; left out: everything
	NoWill            bool         `json:"no_will,omitempty"`    // a client with a will is refused
	ExpiresIn         int64        `json:"expires_in,omitempty"` // seconds, then the connection ends
	SessionExpiry     *uint32      `json:"session_expiry,omitempty"`
	KeepAlive         uint16       `json:"keep_alive,omitempty"`
	ReceiveMaximum    uint16       `json:"receive_maximum,omitempty"`
	MaxInflight       uint16       `json:"max_inflight,omitempty"`
	MaximumPacketSize uint32       `json:"maximum_packet_size,omitempty"`
	MaxQueuedMessages int          `json:"max_queued_messages,omitempty"`
	MaxQueuedBytes    int          `json:"max_queued_bytes,omitempty"`
	MessageRate       int          `json:"message_rate,omitempty"`
	ByteRate          int          `json:"byte_rate,omitempty"`
	SendRate          int          `json:"send_rate,omitempty"`
	SendByteRate      int          `json:"send_byte_rate,omitempty"`
	MaxSubscriptions  int          `json:"max_subscriptions,omitempty"`
}

// A Hook is a hook.Decider by a service. Any goroutine.
type Hook struct {
	config  Config
	service *remote.Service
	known   *remote.Cache[*Response]
}

// New checks c and reads the files that it names.
func New(c Config) (*Hook, error) {
	if c.Fresh < 0 || c.Stale < 0 || c.Remembered < 0 {
		return nil, errors.New("webhook: times and numbers are above 0")
	}
	if c.Remembered == 0 {
		c.Remembered = 100_000
	}
	s, err := remote.New(remote.Config{URL: c.URL, CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, Timeout: c.Timeout,
		AtOnce: c.AtOnce, Failures: c.Failures, LeaveAlone: c.LeaveAlone})
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	return &Hook{config: c, service: s, known: remote.NewCache[*Response](c.Remembered)}, nil
}

// Decide implements hook.Decider.
func (h *Hook) Decide(ctx context.Context, c *hook.Connect) (hook.Decision, error) {
	r := Request{ClientID: c.ClientID, UserName: c.UserName, Password: string(c.Password), Version: c.Version.String(),
		Listener: c.Listener, TLS: c.TLS != nil, Certified: c.Identified}
	if c.RemoteAddr != nil {
		r.Peer = c.RemoteAddr.String()
	}
	if c.Will != nil {
		r.WillTopic, r.WillRetain = c.Will.Topic, c.Will.Retain
	}
	key := h.known.Key(r.ClientID, r.UserName, r.Password, r.Listener, fmt.Sprint(r.Certified), r.WillTopic)
	before, age, known := h.known.Get(key)
	if known && age < h.config.Fresh {
		return before.decision(c, age)
	}
	answer := new(Response)
	err := h.service.Post(ctx, h.config.Token, r, answer)
	if err == nil && answer.Result != "allow" && answer.Result != "deny" && answer.Result != "ignore" {
		err = fmt.Errorf("result %q: want allow, deny or ignore", answer.Result)
	}
	var d hook.Decision
	if err == nil {
		d, err = answer.decision(c, 0)
	}
	if err != nil {
		if known && age < h.config.Fresh+h.config.Stale {
			return before.decision(c, age)
		}
		return hook.Decision{}, fmt.Errorf("webhook: %w", err)
	}
	switch {
	case d.Verdict == hook.Accept && h.config.Fresh+h.config.Stale > 0:
		h.known.Put(key, answer)
	case known:
		h.known.Delete(key)
	}
	return d, nil
}

// decision is what the broker makes of an answer of that age.
func (r *Response) decision(c *hook.Connect, age time.Duration) (hook.Decision, error) {
	switch r.Result {
	case "ignore":
		return hook.Decision{}, nil
	case "deny":
		code := r.Code
		if !code.Failure() {
			code = codec.NotAuthorized
		}
		return hook.Decision{Verdict: hook.Refuse, Code: code, Reason: r.Reason}, nil
	}
	if r.NoWill && c.Will != nil {
		return hook.Decision{Verdict: hook.Refuse, Code: codec.NotAuthorized, Reason: "a will is not allowed"}, nil
	}
	d := hook.Decision{Verdict: hook.Accept, Reason: r.Reason, UserName: r.UserName, ClientID: r.ClientID, KeepAlive: r.KeepAlive,
		SessionExpiry: r.SessionExpiry, ReceiveMaximum: r.ReceiveMaximum, MaxInflight: r.MaxInflight, MaximumPacketSize: r.MaximumPacketSize,
		MaxQueuedMessages: r.MaxQueuedMessages, MaxQueuedBytes: r.MaxQueuedBytes, MaxSubscriptions: r.MaxSubscriptions,
		MessageRate: r.MessageRate, ByteRate: r.ByteRate, SendRate: r.SendRate, SendByteRate: r.SendByteRate}
	if r.ExpiresIn > 0 {
		left := time.Duration(min(r.ExpiresIn, 1<<31))*time.Second - age
		if left <= 0 {
			return hook.Decision{Verdict: hook.Refuse, Code: codec.NotAuthorized, Reason: "the right to be connected has ended"}, nil
		}
		d.Until = time.Now().Add(left)
	}
	if r.Grants != nil {
		user, id := c.UserName, c.ClientID
		if r.UserName != "" {
			user = r.UserName
		}
		if r.ClientID != "" {
			id = r.ClientID
		}
		rights, err := auth.NewRights(user, id, r.Grants)
		if err != nil {
			return hook.Decision{}, fmt.Errorf("webhook: %w", err)
		}
		d.Rights = rights
	}
	return d, nil
}
