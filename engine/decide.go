package engine

import (
	"context"
	"sync"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// decide asks the deciders whether the client of cn may come in. The
// connection waits for the answer, and its packets with it.
func (c *conn) decide(cn *connecting) {
	l := c.loop
	deciders := l.hooks.deciders
	if len(deciders) == 0 {
		l.accept(c, cn)
		return
	}
	if cn.ClientID == "" {
		cn.ClientID, cn.assigned = newClientID(), true
	}
	if d := l.decideNow(deciders, &cn.Connect); d != nil {
		c.settle(cn, d)
		return
	}
	c.ext = &connExt{connecting: cn}
	c.become(connDeciding)
	asked := cn.Connect // the hooks' own: cn may be gone while they think
	ok := askOff(l, hook.Decision{Verdict: hook.Refuse, Code: codec.ServerUnavailable, Reason: "no decision in time"},
		func(ctx context.Context) hook.Decision { return l.b.consult(ctx, deciders, &asked) },
		func(d hook.Decision) { c.decided(cn, &d) })
	if !ok {
		c.refuse(codec.ServerBusy, "too many connections wait for a decision")
	}
}

// decideNow asks deciders in order, until one does not know at once: nil.
func (l *loop) decideNow(deciders []hook.Decider, cn *hook.Connect) (d *hook.Decision) {
	for _, h := range deciders {
		p, ok := h.(hook.PromptDecider)
		if !ok {
			return nil
		}
		if d = p.DecideNow(cn); d == nil || d.Verdict != hook.Pass {
			return d
		}
	}
	return d
}

// consult asks deciders in order. Off the loops.
func (b *Broker) consult(ctx context.Context, deciders []hook.Decider, cn *hook.Connect) hook.Decision {
	for _, h := range deciders {
		d, err := h.Decide(ctx, cn)
		if err != nil {
			b.complain(cn, err)
			return hook.Decision{Verdict: hook.Refuse, Code: codec.ServerUnavailable, Reason: "no decision possible now"}
		}
		if d.Verdict != hook.Pass {
			return d
		}
	}
	return hook.Decision{}
}

// complaints bound what is logged of hooks that cannot decide: who guesses
// passwords makes them fail as often as it likes. Any goroutine.
type complaints struct {
	mu     sync.Mutex
	last   time.Time
	silent int // since last
}

// complainEvery is the time between two lines.
const complainEvery = time.Second

// complain logs that a hook could not decide on a connection. Off the loops.
func (b *Broker) complain(cn *hook.Connect, err error) {
	w := &b.complaints
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if now.Sub(w.last) < complainEvery {
		w.silent++
		return
	}
	args := []any{"client", cn.ClientID, "user", cn.UserName, "peer", cn.RemoteAddr, "error", err}
	if w.silent > 0 {
		args = append(args, "alike since", w.silent)
	}
	w.last, w.silent = now, 0
	b.log.Error("a hook could not decide on a connection", args...)
}

// decided goes on with the answer for cn, unless its connection is gone.
func (c *conn) decided(cn *connecting, d *hook.Decision) {
	if c.state == connDeciding && c.ext.connecting == cn {
		c.settle(cn, d)
		c.resumeReading()
	}
}

// settle does with the client of cn as d says.
func (c *conn) settle(cn *connecting, d *hook.Decision) {
	switch {
	case d.Verdict == hook.Refuse:
		c.refuseAs(d)
		return
	case d.Verdict == hook.Pass && len(c.loop.hooks.authenticators) == 0 && !cn.Identified && (cn.HasUserName || !c.door().Anonymous):
		c.refuse(codec.NotAuthorized, "not let in")
		return
	case d.Verdict == hook.Accept:
		cn.agree(d)
	}
	c.loop.accept(c, cn)
}

// refuseAs answers a CONNECT as d says.
func (c *conn) refuseAs(d *hook.Decision) {
	code := d.Code
	if !code.Failure() {
		code = codec.NotAuthorized
	}
	var props codec.Properties
	if d.ServerReference != "" && (code == codec.UseAnotherServer || code == codec.ServerMoved) {
		props = codec.AppendBytes(nil, codec.ServerReference, d.ServerReference) // [MQTT-3.2.2-21] aside: optional
	}
	reason := d.Reason
	if reason == "" {
		reason = "not let in"
	}
	c.refuseWith(code, reason, props)
}

// agree changes what the client asked for to the terms of d.
func (cn *connecting) agree(d *hook.Decision) {
	cn.terms = d
	if d.ClientID != "" {
		cn.ClientID = d.ClientID
	}
	if d.UserName != "" {
		cn.UserName, cn.HasUserName = d.UserName, true
	}
	if d.SessionExpiry != nil && cn.expiry > *d.SessionExpiry {
		cn.expiry, cn.expiryCapped = *d.SessionExpiry, true
	}
	if d.KeepAlive > 0 && cn.Version == codec.V5 {
		cn.keepAlive, cn.keepAliveCapped = d.KeepAlive, true
	}
}

// terms apply what a hook decided for the connection and its session.
func (l *loop) applyTerms(c *conn, cl *client, d *hook.Decision) {
	if cl.ext != nil {
		cl.ext.grant = grant{}
	}
	cl.SetLimits(l.b.limits.Load())
	if d == nil {
		return
	}
	if d.Rights != nil || d.Data != nil || d.MaxSubscriptions != 0 {
		receive, _ := d.Rights.(hook.ReceiveRights)
		cl.extend().grant = grant{rights: d.Rights, receive: receive, data: d.Data, maxSubscriptions: d.MaxSubscriptions}
	}
	if d.MaxQueuedMessages != 0 || d.MaxQueuedBytes != 0 {
		own := *l.b.limits.Load()
		if d.MaxQueuedMessages != 0 {
			own.Messages = d.MaxQueuedMessages
		}
		if d.MaxQueuedBytes != 0 {
			own.Bytes = d.MaxQueuedBytes
		}
		cl.SetLimits(&own)
	}
	if d.ReceiveMaximum > 0 || d.MaximumPacketSize > 0 || !d.Until.IsZero() {
		x := c.extend()
		x.receiveMaximum, x.packetLimit = d.ReceiveMaximum, int(d.MaximumPacketSize)
		c.setUntil(d.Until)
	}
}

// setUntil sets when the right to be connected ends; zero: never.
func (c *conn) setUntil(at time.Time) {
	switch {
	case !at.IsZero():
		x := c.extend()
		x.until.Owner, x.until.Kind = c, timerUntil
		c.loop.connTimers.Arm(&x.until, c.loop.now.Add(time.Until(at)))
	case c.ext != nil:
		c.loop.connTimers.Cancel(&c.ext.until)
	}
}

// agreeAgain applies the terms of a re-authentication.
func (c *conn) agreeAgain(d *hook.Decision) {
	cl := c.cl
	if d.UserName != "" {
		cl.extend().userName = d.UserName
	}
	if d.Rights != nil || d.Data != nil {
		g := &cl.extend().grant
		g.rights, g.data = d.Rights, d.Data
		g.receive, _ = d.Rights.(hook.ReceiveRights)
	}
	c.setUntil(d.Until)
}

// grant is what a hook gave a session for itself.
type grant struct {
	rights           hook.Rights        // nil: Authorizers alone decide
	receive          hook.ReceiveRights // rights, if they are asked for deliveries too
	data             any
	maxSubscriptions int // 0: as the options say; negative: no bound
}

// grant is cl's, read only.
func (cl *client) granted() *grant {
	if cl.ext == nil {
		return &noGrant
	}
	return &cl.ext.grant
}

var noGrant grant

// mayBeAsked reports whether anybody decides on what cl does.
func (l *loop) mayBeAsked(cl *client) bool {
	return len(l.hooks.authorizers) > 0 || cl.ext != nil && cl.ext.rights != nil
}

// may asks whether cl may do a.
func (l *loop) may(cl *client, a hook.Action, name []byte) bool {
	if r := cl.granted().rights; r != nil && !r.May(a, name) {
		return false
	}
	if len(l.hooks.authorizers) == 0 {
		return true
	}
	who := cl.identity()
	for _, h := range l.hooks.authorizers {
		if !h.Authorize(who, a, name) {
			return false
		}
	}
	return true
}

// mayPublish asks whether cl may publish.
func (l *loop) mayPublish(cl *client, name []byte, retain bool) bool {
	return l.may(cl, hook.Publish, name) && (!retain || l.may(cl, hook.Retain, name))
}

// mayGet asks whether a message on topic may go to cl (B-acl-time).
func (l *loop) mayGet(cl *client, topic []byte) bool {
	if !l.allowsDelivery(cl, topic) {
		l.drop(hook.DropNotAuthorized, cl, topic)
		return false
	}
	return true
}

func (l *loop) allowsDelivery(cl *client, topic []byte) (allowed bool) {
	defer l.denyOnPanic(cl, &allowed)
	if r := cl.granted().receive; r != nil && !r.MayReceive(topic) {
		return false
	}
	for _, h := range l.hooks.deliveries {
		if !h.AuthorizeDelivery(cl.identity(), topic) {
			return false
		}
	}
	return true
}

// checksDelivery reports whether mayGet has anybody to ask.
func (l *loop) checksDelivery(cl *client) bool {
	return l.asks&onReceive != 0 || cl.ext != nil && cl.ext.receive != nil
}

// Reauthorize replaces the rights of live sessions, connected or not: replace
// gets each session and the rights it has, nil where no hook gave any, and
// returns those it shall have. Subscriptions that it may not have any more, by
// the new rights and all Authorizers, end. replace is called on the loops, some
// sessions a turn, so that clients do not notice; a session for which it panics
// has no rights. Reauthorize returns when all loops are through, or with ctx.
// Who is being decided on meanwhile is replaced too, when it comes in. Any
// goroutine, but no loop: not from inside a hook that runs there.
func (b *Broker) Reauthorize(ctx context.Context, replace func(c hook.Client, old hook.Rights) hook.Rights) error {
	done := make(chan struct{}, len(b.loops))
	for _, l := range b.loops {
		l.post(func(l *loop) { l.reauthorizeFrom(0, replace, done) })
	}
	for range b.loops {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// reauthorizeChunk is how many sessions one turn takes.
const reauthorizeChunk = 256

func (l *loop) reauthorizeFrom(slot int, replace func(hook.Client, hook.Rights) hook.Rights, done chan<- struct{}) {
	if slot == 0 {
		l.replaces, l.replace = l.replaces+1, replace
	}
	end := min(slot+reauthorizeChunk, len(l.slots))
	for _, cl := range l.slots[slot:end] {
		if cl.isSession() {
			l.reauthorize(cl, replace)
		}
	}
	if end == len(l.slots) {
		done <- struct{}{}
		return
	}
	l.post(func(l *loop) { l.reauthorizeFrom(end, replace, done) })
}

func (l *loop) reauthorize(cl *client, replace func(hook.Client, hook.Rights) hook.Rights) {
	now := l.replaced(cl, replace)
	if now != nil || cl.ext != nil {
		g := &cl.extend().grant
		g.rights = now
		g.receive, _ = now.(hook.ReceiveRights)
	}
	l.recheck(cl)
}

// recheck ends the subscriptions that cl may not have any more.
func (l *loop) recheck(cl *client) {
	for i := len(cl.subs) - 1; i >= 0; i-- { // removal moves the last one here
		if s := &cl.subs[i]; !l.mayKeep(cl, s) {
			l.unsubscribeOne(cl, []byte(s.filter))
		}
	}
}

// replaced asks replace for cl's rights; none at all when it panics.
func (l *loop) replaced(cl *client, replace func(hook.Client, hook.Rights) hook.Rights) (now hook.Rights) {
	asked := false
	defer l.denyOnPanic(cl, &asked)
	defer func() {
		if !asked {
			now = noRights{}
		}
	}()
	now = replace(cl.identity(), cl.granted().rights)
	asked = true
	return now
}

// noRights are the rights of a session for which nobody could say others.
type noRights struct{}

func (noRights) May(hook.Action, []byte) bool { return false }
func (noRights) MayReceive([]byte) bool       { return false }

// mayKeep asks whether cl may still have s.
func (l *loop) mayKeep(cl *client, s *subscription) (allowed bool) {
	defer l.denyOnPanic(cl, &allowed)
	return !l.mayBeAsked(cl) || l.may(cl, hook.Subscribe, []byte(s.matched()))
}

// post lets f run on l. Any goroutine.
func (l *loop) post(f func(*loop)) {
	l.mailbox.post([]item{{kind: itemCall, call: f}}, callBytes)
}
