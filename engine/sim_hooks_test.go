package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/invariant"
)

// TestHooksSimulation lets hooks at every point say yes, no or nothing, change
// things, fail, answer late or not at all, and panic, by a seed, while clients
// come, publish, subscribe and go. A witness, which hooks leave alone, must get
// what all hooks let pass and nothing else, in each publisher's order; nobody
// loses a connection without a hook's fault; and everything comes to rest.
//
// go test ./engine -run HooksSimulation -sim.seed=N plays one run again.
func TestHooksSimulation(t *testing.T) {
	first, runs := *simSeed, *simRuns
	if runs == 0 && first == 0 {
		runs = 150
	}
	for seed := max(1, first); seed < max(1, first)+uint64(max(1, runs)); seed++ {
		simulateHooks(t, seed)
	}
}

type hookSim struct {
	*harness
	seed     uint64
	rng      *rand.Rand
	calm     bool // hooks say yes
	asked    int  // hooks about each message
	witness  *peer
	clients  []*hookClient
	passed   map[string]int      // by message: how many hooks let it pass
	stopped  map[string]bool     // by message: a hook did not
	routed   map[string][]string // by client: messages that were published
	got      map[string][]string // the same as the witness sees it
	excused  map[string]bool     // by client: a hook did what may end its connection
	admitted map[string]bool     // by client: a decider accepted
}

// hookClient is one connection, under a client identifier of its own.
type hookClient struct {
	*peer
	id   string
	live bool // CONNACK 0 was read
	seq  int
	owed map[uint16]bool // packet identifiers that must be answered
	next uint16
	last string // packet that was read
}

func simulateHooks(t *testing.T, seed uint64) {
	s := &hookSim{seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), passed: make(map[string]int), stopped: make(map[string]bool),
		routed: make(map[string][]string), got: make(map[string][]string), excused: make(map[string]bool), admitted: make(map[string]bool)}
	hooks := []any{&simHooks{s}}
	if s.rng.IntN(3) > 0 {
		hooks = append(hooks, &simReviewers{&simHooks{s}})
	}
	s.asked = len(hooks)
	s.harness = newHarness(t, 1+s.rng.IntN(3), Options{Hooks: hooks, Listeners: closedListener(),
		HookWorkers: 1 + s.rng.IntN(4), HookBacklog: s.rng.IntN(6), HookTimeout: time.Second, ConnectTimeout: time.Hour})
	s.calm, s.held = true, true
	s.witness = s.dial(codec.V5)
	s.witness.send(connectPacket(codec.V5, "witness", true))
	s.rest()
	s.witness.expectConnack(false)
	s.witness.send(subscribePacket(codec.V5, 1, filter("t/#", 0)))
	s.rest()
	s.witness.expect("SUBACK 1 [00]")
	s.calm = false
	for range 200 + s.rng.IntN(400) {
		s.step()
	}
	s.calm = true
	s.settle()
	s.finish()
}

func (s *hookSim) fail(format string, a ...any) {
	s.t.Helper()
	s.t.Fatalf("seed %d: %s", s.seed, fmt.Sprintf(format, a...))
}

// settle lets all hooks answer and all clients read.
func (s *hookSim) settle() {
	s.rest()
	s.read()
}

// rest lets all hooks answer.
func (s *hookSim) rest() {
	for len(s.off) > 0 {
		s.work()
	}
	s.run()
}

// work lets one of the goroutines that wait run.
func (s *hookSim) work() {
	if len(s.off) == 0 {
		return
	}
	i := s.rng.IntN(len(s.off))
	f := s.off[i]
	s.off = slices.Delete(s.off, i, i+1)
	f()
	s.run()
}

func (s *hookSim) step() {
	var c *hookClient
	if open := s.open(); len(open) > 0 {
		c = open[s.rng.IntN(len(open))]
	}
	switch k := s.rng.IntN(100); {
	case c == nil || k < 5 && len(s.open()) < 8:
		s.connect()
	case k < 35:
		s.work()
	case k < 65:
		s.publish(c)
	case k < 72:
		s.ask(c, func(id uint16) []byte { return subscribePacket(codec.V5, id, filter("t/"+c.id, 1), filter("x", 2)) })
	case k < 76:
		s.ask(c, func(id uint16) []byte { return unsubscribePacket(codec.V5, id, "x") })
	case k < 88:
		s.read()
	case k < 90:
		c.send(disconnectPacket(codec.V5, 0))
		s.excused[c.id] = true
	case k < 92:
		s.excused[c.id] = true
		c.cut()
	case k < 97:
		s.advance(time.Duration(s.rng.IntN(700)) * time.Millisecond)
	default:
		s.advance(1500 * time.Millisecond) // longer than hooks may take
	}
}

func (s *hookSim) open() (open []*hookClient) {
	for _, c := range s.clients {
		if !c.closed && !c.gone {
			open = append(open, c)
		}
	}
	return open
}

func (s *hookSim) connect() {
	c := &hookClient{id: fmt.Sprint("c", len(s.clients)), owed: make(map[uint16]bool)}
	s.clients = append(s.clients, c)
	c.peer = s.dial(codec.V5)
	c.send(connectPacket(codec.V5, c.id, true, keepFor(uint32(s.rng.IntN(2))), willOf(codec.Will{Topic: []byte("w")})))
}

func (s *hookSim) publish(c *hookClient) {
	c.seq++
	message := fmt.Sprintf("%s/%d", c.id, c.seq)
	qos := codec.QoS(s.rng.IntN(3))
	if qos == 0 {
		c.send(publishPacket(codec.V5, "t/"+c.id, message, 0, 0))
		return
	}
	s.ask(c, func(id uint16) []byte { return publishPacket(codec.V5, "t/"+c.id, message, qos, id) })
}

// ask sends a packet that must be answered.
func (s *hookSim) ask(c *hookClient, packet func(id uint16) []byte) {
	c.next++
	c.owed[c.next] = true
	c.send(packet(c.next))
}

// read lets all clients read what is there.
func (s *hookSim) read() {
	for _, c := range s.clients {
		for _, line := range c.all() {
			c.last = line
			s.readLine(c, line)
		}
		if c.closed && !s.excused[c.id] {
			s.fail("%s lost its connection, and no hook is to blame: %s", c.id, c.last)
		}
	}
	for _, line := range s.witness.all() {
		message := strings.TrimRight(strings.Split(line, `"`)[3], "+")
		id, _, _ := strings.Cut(message, "/")
		s.got[id] = append(s.got[id], message)
	}
}

func (s *hookSim) readLine(c *hookClient, line string) {
	var id, code int
	kind, _, _ := strings.Cut(line, " ")
	switch kind {
	case "CONNACK":
		c.live = strings.HasPrefix(line, "CONNACK sp=0 00")
		if c.live && !s.admitted[c.id] {
			s.fail("%s came in, and no decider said so", c.id)
		}
	case "PUBACK", "SUBACK", "UNSUBACK", "PUBCOMP":
		_, _ = fmt.Sscanf(line, kind+" %d", &id)
		delete(c.owed, uint16(id))
	case "PUBREC":
		_, _ = fmt.Sscanf(line, "PUBREC %d %02X", &id, &code)
		if code < 0x80 {
			c.send(ackPacket(codec.V5, codec.PUBREL, uint16(id), 0))
		} else {
			delete(c.owed, uint16(id))
		}
	case "PUBLISH":
		if _, _ = fmt.Sscanf(line, "PUBLISH q1 r0 d0 id=%d", &id); id != 0 {
			c.send(ackPacket(codec.V5, codec.PUBACK, uint16(id), 0))
		}
	}
}

// finish compares what came out with what hooks said.
func (s *hookSim) finish() {
	for range 3 { // PUBREL is answered in turn
		s.settle()
	}
	for _, c := range s.clients {
		if !slices.Equal(s.got[c.id], s.routed[c.id]) {
			s.fail("the witness got %q, published were %q", s.got[c.id], s.routed[c.id])
		}
		last := 0
		for _, message := range s.routed[c.id] {
			var n int
			_, _ = fmt.Sscanf(message[len(c.id):], "/%d", &n)
			if n <= last {
				s.fail("%q are not in their publisher's order", s.routed[c.id])
			}
			last = n
			if s.stopped[message] || s.passed[message] != s.asked {
				s.fail("%s was published, and %d hooks of %d let it pass", message, s.passed[message], s.asked)
			}
		}
		if c.closed || c.gone {
			continue
		}
		if !c.live || len(c.owed) > 0 {
			s.fail("%s is open (%v) and waits for answers to %v", c.id, c.live, c.owed)
		}
		for n := 1; n <= c.seq; n++ {
			message := fmt.Sprintf("%s/%d", c.id, n)
			if s.passed[message] == s.asked && !s.stopped[message] != slices.Contains(s.routed[c.id], message) {
				s.fail("%s: let pass by all hooks, and not published", message)
			}
		}
	}
	if o := &s.b.off; o.running != 0 || len(o.waiting) != 0 {
		s.fail("%d hooks run and %d wait at the end", o.running, len(o.waiting))
	}
	if n, want := s.b.Connections(), len(s.open())+1; n != want {
		s.advance(2 * lingering) // refused ones are left time to read
		if n = s.b.Connections(); n != want {
			s.fail("%d connections, want %d", n, want)
		}
	}
}

// An attitude is what a hook does when it is asked.
type attitude int

const (
	yes attitude = iota
	no
	failed
	late
	closing
	panics
)

// roll draws an attitude for a hook asked about client id, of those given beside yes.
func (s *hookSim) roll(id string, of ...attitude) attitude {
	if s.calm || id == "witness" || id == "" || s.rng.IntN(5) > 0 {
		return yes
	}
	a := of[s.rng.IntN(len(of))]
	if a == panics && invariant.Enabled { // panics on the loop are not caught then
		a = no
	}
	s.excused[id] = s.excused[id] || a == closing || a == panics
	return a
}

// decided does what a says and reports whether it is yes.
func (s *hookSim) decided(a attitude) bool {
	switch a {
	case panics:
		panic(errPanic)
	case late:
		s.advance(1500 * time.Millisecond)
	}
	return a == yes
}

var errSim, errPanic = errors.New("fails"), errors.New("panics")

// simHooks is a hook at every point but the reviewers'.
type simHooks struct{ *hookSim }

// simReviewers are the reviewers alone.
type simReviewers struct{ s *simHooks }

func (s *simHooks) Decide(_ context.Context, c *hook.Connect) (d hook.Decision, err error) {
	a := s.roll(c.ClientID, no, failed, late, panics)
	s.excused[c.ClientID] = s.excused[c.ClientID] || a != yes
	if !s.decided(a) {
		return hook.Decision{Verdict: hook.Refuse}, map[attitude]error{failed: errSim}[a]
	}
	s.admitted[c.ClientID] = true
	return hook.Decision{Verdict: hook.Accept, Rights: rightsFunc(func(hook.Action, string) bool { return true })}, nil
}

// pass notes what a hook said about p.
func (s *simHooks) pass(p *hook.Publication, a attitude) {
	message := strings.TrimRight(string(p.Payload), "+")
	if a == yes {
		s.passed[message]++
	} else {
		s.stopped[message] = true
	}
}

func (s *simHooks) InterceptPublish(c hook.Client, p *hook.Publication) hook.Outcome {
	a := s.roll(c.ClientID, no, closing, panics)
	s.pass(p, a)
	if !s.decided(a) {
		return hook.Outcome{Stop: true, Close: a == closing, Code: codec.QuotaExceeded}
	}
	if !p.Will && s.rng.IntN(4) == 0 {
		p.Payload = append(slices.Clone(p.Payload), '+')
	}
	return hook.Outcome{}
}

func (r simReviewers) ReviewPublish(_ context.Context, c hook.Client, p *hook.Publication) (hook.Outcome, error) {
	s := r.s
	a := s.roll(c.ClientID, no, failed, late, closing, panics)
	s.pass(p, a)
	if a == late {
		s.decided(a)
		return hook.Outcome{}, nil // nobody hears it
	}
	if !s.decided(a) {
		return hook.Outcome{Stop: true, Close: a == closing, Code: codec.QuotaExceeded}, map[attitude]error{failed: errSim}[a]
	}
	return hook.Outcome{}, nil
}

func (r simReviewers) ReviewSubscribe(_ context.Context, c hook.Client, sub *hook.Subscription) (codec.ReasonCode, error) {
	s := r.s
	a := s.roll(c.ClientID, no, failed, late, panics)
	if !s.decided(a) {
		return codec.NotAuthorized, map[attitude]error{failed: errSim}[a]
	}
	return codec.Success, nil
}

func (s *simHooks) InterceptDelivery(c hook.Client, d *hook.Delivery) bool {
	return s.decided(s.roll(c.ClientID, no, panics))
}

func (s *simHooks) Published(c hook.Client, p hook.Publication, _ codec.ReasonCode) {
	message := strings.TrimRight(string(p.Payload), "+")
	s.routed[c.ClientID] = append(s.routed[c.ClientID], message)
	s.decided(s.roll(c.ClientID, panics))
}

func (s *simHooks) Subscribed(c hook.Client, _ hook.Subscription) {
	s.decided(s.roll(c.ClientID, panics))
}
func (s *simHooks) Unsubscribed(c hook.Client, _ string) { s.decided(s.roll(c.ClientID, panics)) }
func (s *simHooks) Acknowledged(c hook.Client, _ uint16, _ codec.QoS) {
	s.decided(s.roll(c.ClientID, panics))
}
func (s *simHooks) Delivered(c hook.Client, _ hook.Delivery, _ uint16) {
	s.decided(s.roll(c.ClientID, panics))
}
func (s *simHooks) Connected(c hook.Client, _ hook.Connected) { s.decided(s.roll(c.ClientID, panics)) }
func (s *simHooks) Disconnected(c hook.Client, _ hook.Disconnected) {
	s.decided(s.roll(c.ClientID, panics))
}
func (s *simHooks) SessionChanged(id string, _ hook.SessionEvent) { s.decided(s.roll(id, panics)) }
func (s *simHooks) WillPublished(c hook.Client, _ hook.Publication) {
	s.decided(s.roll(c.ClientID, panics))
}
func (s *simHooks) NotConsumed(c hook.Client, _ hook.Publication) {
	s.decided(s.roll(c.ClientID, panics))
}
func (s *simHooks) Dropped(d hook.Drop)        { s.decided(s.roll(d.To, panics)) }
func (s *simHooks) EventKinds() hook.EventKind { return hook.AllEvents }
func (s *simHooks) HandleEvent(_ context.Context, e hook.Event) {
	s.decided(s.roll(e.Client.ClientID, late, panics))
}
func (s *simHooks) ConnectionRefused(c hook.Client, _ codec.ReasonCode, _ string) {
	s.excused[c.ClientID] = true
	s.decided(s.roll(c.ClientID, panics))
}
func (s *simHooks) ConnectionAccepted(hook.Client) {}

func (s *simHooks) Authorize(c hook.Client, _ hook.Action, _ []byte) bool {
	return s.decided(s.roll(c.ClientID, no, panics))
}

func (s *simHooks) InterceptSubscribe(c hook.Client, _ *hook.Subscription) codec.ReasonCode {
	if !s.decided(s.roll(c.ClientID, no, panics)) {
		return codec.NotAuthorized
	}
	return codec.Success
}

func (s *simHooks) InterceptUnsubscribe(c hook.Client, f string) (string, codec.ReasonCode) {
	if !s.decided(s.roll(c.ClientID, no, panics)) {
		return f, codec.NotAuthorized
	}
	return f, codec.Success
}

// send is peer.send with a transport that ends the connection for a hook that
// panics while its bytes are handled.
func (c *hookClient) send(b []byte) {
	func() {
		defer func() {
			if r := recover(); r == errPanic {
				c.Close()
			} else if r != nil {
				panic(r)
			}
		}()
		c.post(b)
	}()
	c.h.run()
}
