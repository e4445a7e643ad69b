package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/inflight"
)

// run connects, again and again, until the client ends.
func (c *Client) run(life context.Context) {
	pause, attempt, at, redirects := time.Duration(0), 0, 0, 0
	for {
		attempt++
		s := c.nextServer(&at)
		if c.o.OnAttempt != nil {
			c.o.OnAttempt(s.text, attempt, pause)
		}
		cn, err := c.connect(life, s)
		if life.Err() != nil {
			if cn != nil {
				cn.net.Close()
			}
			c.report(ErrClosed)
			return
		}
		if err != nil {
			c.o.Logger.Info("connecting failed", "server", s.text, "attempt", attempt, "error", err)
			if c.o.OnLost != nil && errors.As(err, new(*Refused)) {
				c.o.OnLost(err)
			}
			follows := c.redirected(s, err) && redirects < maxRedirects
			if follows {
				redirects++
			}
			if first := c.isFirst(); !follows && (first && !c.o.FirstMayFail && at%len(c.servers) == 0 || !first && c.o.NoReconnect) {
				c.report(err)
				go c.end(err)
				return
			}
		} else {
			began := time.Now()
			err = c.serve(cn)
			c.o.Logger.Info("connection ended", "server", s.text, "error", err)
			if life.Err() != nil {
				return
			}
			if c.o.OnLost != nil {
				c.o.OnLost(err)
			}
			redirects = 0
			c.redirected(s, err)
			if r := (*Refused)(nil); c.o.NoReconnect || errors.As(err, &r) && r.What == "DISCONNECT" && r.Code == codec.SessionTakenOver {
				go c.end(err) // to come back would take the other one's session in turn
				return
			}
			attempt = 0
			if time.Since(began) > c.o.MinPause {
				pause = 0
			}
		}
		pause = c.nextPause(pause, err)
		select {
		case <-time.After(pause):
		case <-life.Done():
			c.report(ErrClosed)
			return
		}
	}
}

// nextPause doubles the pause, takes up to a half off by chance, and takes the
// longest at once where the broker is not likely to change its mind.
func (c *Client) nextPause(last time.Duration, err error) time.Duration {
	next := min(max(c.o.MinPause, 2*last), c.o.MaxPause)
	var r *Refused
	if errors.As(err, &r) {
		switch r.code() {
		case codec.ServerBusy, codec.ServerUnavailable, codec.ConnectionRateExceeded, codec.QuotaExceeded:
			next = min(max(next, 4*c.o.MinPause), c.o.MaxPause)
		case codec.BadUserNameOrPassword, codec.NotAuthorized, codec.Banned, codec.ClientIdentifierNotValid, codec.UnsupportedProtocolVersion, codec.BadAuthenticationMethod:
			next = c.o.MaxPause
		}
	}
	return next - time.Duration(rand.Int64N(int64(next)/2+1))
}

// nextServer is whose turn it is: the one that the broker named, else the next.
func (c *Client) nextServer(at *int) server {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to := c.redirect; to != nil {
		c.redirect = nil
		return *to
	}
	s := c.servers[*at%len(c.servers)]
	*at++
	return s
}

// maxRedirects is how many Server References of refusals are followed before the first connection is given up.
const maxRedirects = 5

// redirected notes down the server that a refusal by from names, the first of several (MQTT 5.0 section 4.11), and reports
// whether there is one. A name alone is reached as from is; what came by TLS is not sent on without.
func (c *Client) redirected(from server, err error) bool {
	var r *Refused
	if !errors.As(err, &r) || r.Code != codec.UseAnotherServer && r.Code != codec.ServerMoved {
		return false
	}
	names := strings.Fields(r.Server)
	if len(names) == 0 {
		return false
	}
	name := names[0]
	if !strings.Contains(name, "://") && from.network != "unix" {
		name = from.url.Scheme + "://" + name + from.url.Path
	}
	to, err := parseServer(name)
	if err != nil || to.network == "unix" || from.tls && !to.tls {
		c.o.Logger.Warn("server reference is not followed", "server", from.text, "reference", r.Server)
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.redirect = &to
	return true
}

func (c *Client) isFirst() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first != nil
}

// report gives Connect its result.
func (c *Client) report(err error) {
	c.mu.Lock()
	first := c.first
	c.first = nil
	c.mu.Unlock()
	if first != nil {
		first <- err
	}
}

// serve is one connection from CONNACK to its end, and returns why it ended.
func (c *Client) serve(cn *conn) error {
	if !c.begin(cn) {
		cn.net.Close()
		close(cn.gone)
		return ErrClosed
	}
	if c.o.OnConnected != nil {
		c.o.OnConnected(cn.info)
	}
	c.report(nil)
	written := make(chan struct{})
	go func() {
		defer close(written)
		if err := cn.write(); err != nil {
			cn.close(err)
		}
	}()
	err := cn.read()
	var mistake *codec.Error
	if errors.As(err, &mistake) && c.o.Version == V5 { // the broker's: it is told
		d := codec.Disconnect{Code: mistake.Code}
		_ = cn.net.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = cn.net.Write(d.Append(nil, V5))
	}
	cn.close(err)
	<-written
	c.mu.Lock()
	err = cn.failed
	if c.conn == cn {
		c.conn = nil
	}
	requests := c.lose()
	c.signal()
	c.mu.Unlock()
	close(cn.gone)
	for _, g := range requests {
		g.fail(ErrLost)
	}
	if err == nil {
		err = ErrLost
	}
	return err
}

// lose takes SUBSCRIBE and UNSUBSCRIBE out of the window: they are not sent
// again. Under mu.
func (c *Client) lose() (requests []*outgoing) {
	for _, e := range c.window.Ordered(nil) {
		if e.State == awaitSuback {
			requests = append(requests, e.Value)
			c.window.Remove(e.PacketID)
		}
	}
	return requests
}

// begin makes cn the connection: what was in flight is sent again, in its
// order, then subscriptions, then what waits. It reports false when the client
// has ended.
func (c *Client) begin(cn *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.conn = cn
	c.clean = false
	if c.o.RetryDelay > 0 {
		go cn.retry()
	}
	if cn.info.SessionPresent || c.o.Version == V31 && !c.o.CleanStart { // CONNACK of 3.1 does not tell
		c.resend(cn)
	} else {
		c.anew()
	}
	c.resubscribe(cn, cn.info.SessionPresent)
	cn.pump()
	c.signal()
	if len(cn.out) > 0 {
		cn.poke()
	}
	return true
}

// resend sends what is in flight again (MQTT 5.0 section 4.4). Under mu.
func (c *Client) resend(cn *conn) {
	sent := 0
	for _, e := range c.window.Ordered(nil) {
		switch {
		case e.State == inflight.AwaitPubcomp:
			e.Value.sent, e.Value.repeats = time.Now(), 0
			cn.out = codec.AppendAck(cn.out, c.o.Version, codec.PUBREL, e.PacketID, codec.Success, nil)
		case sent >= cn.quota: // the broker takes fewer at once than before
			cn.later = append(cn.later, e.PacketID)
		default:
			sent++
			e.Value.repeats = 0
			cn.encode(e.Value, e.PacketID, true)
		}
	}
}

// retry sends again what is not answered, while the connection lasts (MQTT 3.1
// section 4.2).
func (cn *conn) retry() {
	tick := time.NewTicker(max(cn.c.o.RetryDelay/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-cn.gone:
			return
		case now := <-tick.C:
			cn.c.mu.Lock()
			cn.retryDue(now)
			cn.c.mu.Unlock()
		}
	}
}

// retryDue sends again what has waited for long enough, and gives up what was
// sent often enough. Under mu.
func (cn *conn) retryDue(now time.Time) {
	c := cn.c
	if c.conn != cn {
		return
	}
	for _, e := range c.window.Ordered(nil) {
		g := e.Value
		switch {
		case e.State == awaitSuback || g.sent.IsZero() || now.Sub(g.sent) < c.o.RetryDelay:
		case g.repeats == c.o.RetryAttempts:
			c.window.Remove(e.PacketID) // e is no longer valid
			c.open--
			c.forget(g)
			go g.fail(ErrNoAnswer)
		case e.State == inflight.AwaitPubcomp:
			g.sent, g.repeats = now, g.repeats+1
			cn.out = codec.AppendAck(cn.out, c.o.Version, codec.PUBREL, e.PacketID, codec.Success, nil)
			cn.poke()
		default:
			g.repeats++
			cn.encode(g, e.PacketID, true)
		}
	}
	cn.pump()
	c.signal()
}

// anew queues what was in flight in front of what waits: the broker does not
// know of it. What it had acknowledged with PUBREC was its own to deliver. Under mu.
func (c *Client) anew() {
	var again []*outgoing
	for _, e := range c.window.Ordered(nil) {
		g, state := e.Value, e.State
		c.window.Remove(e.PacketID) // e is no longer valid
		c.open--
		if state == inflight.AwaitPubcomp {
			c.forget(g)
			g.token.settle(g.token.result, nil)
			continue
		}
		c.keep(g, 0, 0)
		again = append(again, g)
	}
	c.queue = append(again, c.queue...)
	for id := range c.received.All() {
		c.change(Change{Kind: Released, ID: uint64(id)})
	}
	c.received = inflight.IDSet{}
}
