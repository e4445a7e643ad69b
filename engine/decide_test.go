package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/internal/invariant"
)

// deciderFunc is a hook.Decider.
type deciderFunc func(*hook.Connect) (hook.Decision, error)

func (f deciderFunc) Decide(_ context.Context, c *hook.Connect) (hook.Decision, error) { return f(c) }

// rightsFunc is hook.Rights.
type rightsFunc func(hook.Action, string) bool

func (f rightsFunc) May(a hook.Action, topic []byte) bool { return f(a, string(topic)) }

// receivesOnly is rights to everything, to receive one topic.
type receivesOnly string

func (receivesOnly) May(hook.Action, []byte) bool   { return true }
func (r receivesOnly) MayReceive(topic []byte) bool { return string(topic) == string(r) }
func accepted(d hook.Decision) deciderFunc          { d.Verdict = hook.Accept; return always(d) }
func always(d hook.Decision) deciderFunc {
	return func(*hook.Connect) (hook.Decision, error) { return d, nil }
}
func passing(*hook.Connect) (hook.Decision, error)         { return hook.Decision{}, nil }
func failing(*hook.Connect) (hook.Decision, error)         { return hook.Decision{}, errors.New("down") }
func panicking(*hook.Connect) (d hook.Decision, err error) { panic("decider") }
func closedListener() []Listener                           { return []Listener{{Address: "harness:1883"}} }
func acceptUser(name string) deciderFunc {
	return func(c *hook.Connect) (hook.Decision, error) {
		if c.UserName == name {
			return hook.Decision{Verdict: hook.Accept}, nil
		}
		return hook.Decision{}, nil
	}
}

func TestDeciderChain(t *testing.T) {
	f := func(anonymous bool, user, v5, v311 string, deciders ...any) {
		t.Helper()
		o := Options{Hooks: deciders, Listeners: []Listener{{Address: "harness:1883", Anonymous: anonymous}}}
		each(t, o, func(t *testing.T, h *harness) {
			t.Helper()
			for v, want := range map[codec.Version]string{codec.V5: v5, codec.V311: v311} {
				p := h.dial(v)
				var edit []func(*codec.Connect)
				if user != "" {
					edit = append(edit, login(user, "secret"))
				}
				p.send(connectPacket(v, "p", true, edit...))
				if want == "" {
					p.expect(connackLine(v, false))
				} else {
					p.expectEnd(want)
				}
			}
		})
	}
	refusing := always(hook.Decision{Verdict: hook.Refuse, Code: codec.Banned, Reason: "out"})
	moved := always(hook.Decision{Verdict: hook.Refuse, Code: codec.UseAnotherServer, ServerReference: "other:1883"})
	f(false, "ada", "", "", acceptUser("ada"))
	f(false, "ada", "", "", deciderFunc(passing), acceptUser("ada"), refusing) // the first that says something
	f(false, "eve", `CONNACK sp=0 8A {ReasonString="out"}`, "CONNACK sp=0 05", acceptUser("ada"), refusing)
	f(false, "eve", `CONNACK sp=0 87 {ReasonString="not let in"}`, "CONNACK sp=0 05", acceptUser("ada"))
	f(true, "", "", "", acceptUser("ada")) // nobody objects to a client without a name
	f(true, "eve", `CONNACK sp=0 87 {ReasonString="not let in"}`, "CONNACK sp=0 05", acceptUser("ada"))
	f(false, "", `CONNACK sp=0 87 {ReasonString="not let in"}`, "CONNACK sp=0 05", acceptUser("ada"))
	f(false, "ada", `CONNACK sp=0 88 {ReasonString="no decision possible now"}`, "CONNACK sp=0 03", deciderFunc(failing), acceptUser("ada"))
	f(false, "ada", `CONNACK sp=0 88 {ReasonString="no decision in time"}`, "CONNACK sp=0 03", deciderFunc(panicking))
	f(false, "ada", `CONNACK sp=0 9C {ServerReference="other:1883" ReasonString="not let in"}`, "CONNACK sp=0 03", moved)
	f(false, "ada", `CONNACK sp=0 87 {ReasonString="not let in"}`, "CONNACK sp=0 05") // nobody can tell who it is
}

func TestPacketsWaitForTheDecision(t *testing.T) {
	each(t, Options{Hooks: []any{accepted(hook.Decision{})}, Listeners: closedListener()}, func(t *testing.T, h *harness) {
		h.held = true
		p := h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", true), subscribePacket(codec.V5, 1, filter("a", 0))[:5])
		p.send(subscribePacket(codec.V5, 1, filter("a", 0))[5:], publishPacket(codec.V5, "a", "x", 0, 0))
		p.expect()
		h.held = false
		h.run()
		p.expect(connackLine(codec.V5, false), "SUBACK 1 [00]", `PUBLISH q0 r0 d0 "a" "x"`)
	})
}

func TestConnectionGoneBeforeTheDecision(t *testing.T) {
	each(t, Options{Hooks: []any{accepted(hook.Decision{})}, Listeners: closedListener(), HookTimeout: time.Hour}, func(t *testing.T, h *harness) {
		watch := h.dial(codec.V5)
		watch.send(connectPacket(codec.V5, "watch", true))
		watch.expect(connackLine(codec.V5, false))
		watch.send(subscribePacket(codec.V5, 1, filter("will", 0)))
		watch.expect("SUBACK 1 [00]")
		h.held = true
		p := h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", true, willOf(codec.Will{Topic: []byte("will")})))
		p.cut()
		late := h.dial(codec.V5)
		late.send(connectPacket(codec.V5, "late", true))
		h.advance(h.b.options().ConnectTimeout + time.Second)
		h.held = false
		h.run()
		watch.expect() // a will that was never accepted
		if !late.closed {
			t.Error("the CONNECT deadline does not hold while hooks think")
		}
		if n := h.b.directory.Len(); n != 1 {
			t.Errorf("%d sessions, want 1", n)
		}
	})
}

func TestTooManyWaitForADecision(t *testing.T) {
	o := Options{Hooks: []any{accepted(hook.Decision{})}, HookWorkers: 1, HookBacklog: 1, Listeners: closedListener()}
	each(t, o, func(t *testing.T, h *harness) {
		h.held = true
		var peers []*peer
		for range 3 {
			p := h.dial(codec.V5)
			p.send(connectPacket(codec.V5, "", true))
			peers = append(peers, p)
		}
		peers[2].expectEnd(`CONNACK sp=0 89 {ReasonString="too many connections wait for a decision"}`)
		h.held = false
		h.run()
		for _, p := range peers[:2] {
			p.expectConnack(false)
		}
	})
}

func TestTermsOfADecision(t *testing.T) {
	expiry := uint32(7)
	d := hook.Decision{
		ClientID: "other", UserName: "ada", Reason: "welcome", KeepAlive: 9, SessionExpiry: &expiry, ReceiveMaximum: 1,
		MaxInflight: 1, MaximumPacketSize: 64, MaxQueuedMessages: 1, MaxSubscriptions: 1, Data: 42,
		UserProperties: codec.AppendUserProperty(nil, "k", "v"),
	}
	var seen hook.Client
	note := rules(func(c hook.Client, _ hook.Action, _ string) bool { seen = c; return false })
	each(t, Options{Hooks: []any{accepted(d), note}, Listeners: closedListener()}, func(t *testing.T, h *harness) {
		p := h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", true, keepFor(100), keepAlive(60)))
		p.expect(`CONNACK sp=0 00 {SessionExpiryInterval=7 ReceiveMaximum=1 MaximumPacketSize=64 TopicAliasMaximum=10 ServerKeepAlive=9 ReasonString="welcome" UserProperty="k":"v"}`)
		if _, ok := h.b.directory.Lookup("other"); !ok {
			t.Error("the session is not under the client identifier of the decision")
		}
		p.send(publishPacket(codec.V5, "a", "x", 0, 0))
		if seen.ClientID != "other" || seen.UserName != "ada" || seen.Data != 42 || seen.RemoteAddr == nil || seen.Version != codec.V5 {
			t.Errorf("hooks are told %+v", seen)
		}
		p.send(publishPacket(codec.V5, "a", string(make([]byte, 64)), 0, 0))
		p.expectEnd("DISCONNECT 95")
	})
}

func TestBoundsOfADecision(t *testing.T) {
	d := hook.Decision{MaxInflight: 1, MaxQueuedMessages: 1, MaxSubscriptions: 1}
	each(t, Options{Hooks: []any{accepted(d)}, Listeners: closedListener()}, func(t *testing.T, h *harness) {
		sub := h.dial(codec.V311)
		sub.send(connectPacket(codec.V311, "sub", true), subscribePacket(codec.V311, 1, filter("a", 1), filter("b", 1)))
		sub.expect("CONNACK sp=0 00", "SUBACK 1 [01 80]")
		pub := h.dial(codec.V311)
		pub.send(connectPacket(codec.V311, "pub", true))
		for _, payload := range []string{"1", "2", "3"} {
			pub.send(publishPacket(codec.V311, "a", payload, 1, 1))
		}
		sub.expect(`PUBLISH q1 r0 d0 id=1 "a" "1"`)
		sub.send(ackPacket(codec.V311, codec.PUBACK, 1, 0))
		sub.expect(`PUBLISH q1 r0 d0 id=2 "a" "2"`)
		sub.send(ackPacket(codec.V311, codec.PUBACK, 2, 0))
		sub.expect() // the third found the queue full
	})
}

func TestRightsOfASession(t *testing.T) {
	rights := rightsFunc(func(a hook.Action, topic string) bool {
		return topic == "ok" || a == hook.Publish && topic == "plain"
	})
	each(t, Options{Hooks: []any{accepted(hook.Decision{Rights: rights})}, Listeners: closedListener()}, func(t *testing.T, h *harness) {
		p := h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", true), subscribePacket(codec.V5, 1, filter("ok", 0), filter("no", 0), filter("$share/g/no", 0)))
		p.expect(connackLine(codec.V5, false), "SUBACK 1 [00 87 87]")
		p.send(publishPacket(codec.V5, "plain", "", 1, 1), publishPacket(codec.V5, "plain", "x", 1, 2, retain), publishPacket(codec.V5, "no", "", 1, 3))
		p.expect("PUBACK 1 10", `PUBACK 2 87 {ReasonString="not allowed to publish there"}`, `PUBACK 3 87 {ReasonString="not allowed to publish there"}`)
		dying := h.dial(codec.V5)
		dying.send(connectPacket(codec.V5, "d", true, willOf(codec.Will{Topic: []byte("no")})))
		dying.expect(connackLine(codec.V5, false))
		before := h.b.loops[dying.env.loop.id].counters.Dropped
		dying.cut()
		if after := dying.env.loop.counters.Dropped; after == before {
			t.Error("a will that the session's rights forbid was published")
		}
	})
}

func TestReceiveRights(t *testing.T) {
	rights := receivesOnly("mine")
	each(t, Options{Hooks: []any{accepted(hook.Decision{Rights: rights})}, Listeners: closedListener()}, func(t *testing.T, h *harness) {
		pub := h.dial(codec.V5)
		pub.send(connectPacket(codec.V5, "pub", true), publishPacket(codec.V5, "mine", "r", 0, 0, retain), publishPacket(codec.V5, "other", "r", 0, 0, retain))
		p := h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", true), subscribePacket(codec.V5, 1, filter("#", 0)))
		p.expect(connackLine(codec.V5, false), "SUBACK 1 [00]", `PUBLISH q0 r1 d0 "mine" "r"`)
		pub.send(publishPacket(codec.V5, "mine", "x", 0, 0), publishPacket(codec.V5, "other", "x", 0, 0))
		p.expect(`PUBLISH q0 r0 d0 "mine" "x"`)
	})
}

func TestUntil(t *testing.T) {
	for _, v := range []codec.Version{codec.V5, codec.V311} {
		d := hook.Decision{Until: time.Now().Add(time.Hour)}
		each(t, Options{Hooks: []any{accepted(d)}, Listeners: closedListener()}, func(t *testing.T, h *harness) {
			watch := h.dial(codec.V5)
			watch.send(connectPacket(codec.V5, "watch", true), subscribePacket(codec.V5, 1, filter("will", 0)))
			watch.expect(connackLine(codec.V5, false), "SUBACK 1 [00]")
			h.advance(time.Minute)
			p := h.dial(v)
			p.send(connectPacket(v, "p", true, willOf(codec.Will{Topic: []byte("will"), Payload: []byte("w")})))
			p.expect(connackLine(v, false))
			h.advance(59*time.Minute - 2*time.Second + time.Since(d.Until.Add(-time.Hour)))
			watch.expect()
			h.advance(70 * time.Second)
			if v == codec.V5 {
				p.expectEnd("DISCONNECT 87")
			} else {
				p.expectEnd()
			}
		})
	}
}

func TestReauthorize(t *testing.T) {
	all := rightsFunc(func(hook.Action, string) bool { return true })
	each(t, Options{Hooks: []any{accepted(hook.Decision{Rights: all})}, Listeners: closedListener()}, func(t *testing.T, h *harness) {
		p := h.dial(codec.V5)
		p.send(connectPacket(codec.V5, "p", true), subscribePacket(codec.V5, 1, filter("a", 0), filter("b", 0), filter("$share/g/a", 0)))
		p.expect(connackLine(codec.V5, false), "SUBACK 1 [00 00 00]")
		done := make(chan struct{}, len(h.envs))
		onlyB := rightsFunc(func(_ hook.Action, topic string) bool { return topic == "b" })
		for _, e := range h.envs {
			e.loop.post(func(l *loop) {
				l.reauthorizeFrom(0, func(c hook.Client, old hook.Rights) hook.Rights {
					if old == nil || c.ClientID != "p" {
						t.Errorf("asked about %+v with rights %v", c, old)
					}
					return onlyB
				}, done)
			})
		}
		h.run()
		if len(done) != len(h.envs) {
			t.Fatalf("%d loops are through, want %d", len(done), len(h.envs))
		}
		p.send(publishPacket(codec.V5, "a", "x", 1, 1), publishPacket(codec.V5, "b", "x", 0, 0), subscribePacket(codec.V5, 2, filter("a", 0)))
		p.expect(`PUBACK 1 87 {ReasonString="not allowed to publish there"}`, `PUBLISH q0 r0 d0 "b" "x"`, "SUBACK 2 [87]")
		if n := len(h.b.loops[p.env.loop.id].slots[0].subs); n != 1 {
			t.Errorf("%d subscriptions are left, want 1", n)
		}
	})
}

// TestReauthorizePanics: who cannot be asked about loses all rights, others keep theirs.
func TestReauthorizePanics(t *testing.T) {
	if invariant.Enabled {
		t.Skip("panics are not caught with invariants")
	}
	each(t, Options{}, func(t *testing.T, h *harness) {
		p, q := h.client(codec.V5, "p").subscribed(filter("a", 0)), h.client(codec.V5, "q").subscribed(filter("a", 0))
		done := make(chan struct{}, len(h.envs))
		for _, l := range h.b.loops {
			l.post(func(l *loop) {
				l.reauthorizeFrom(0, func(c hook.Client, old hook.Rights) hook.Rights {
					if c.ClientID == "p" {
						panic("rights")
					}
					return old
				}, done)
			})
		}
		h.run()
		if len(done) != len(h.envs) {
			t.Fatalf("%d loops are through, want %d", len(done), len(h.envs))
		}
		q.send(publishPacket(codec.V5, "a", "x", 0, 0))
		p.expect()
		q.expect(`PUBLISH q0 r0 d0 "a" "x"`)
		p.send(publishPacket(codec.V5, "a", "x", 1, 1))
		p.expect(`PUBACK 1 87 {ReasonString="not allowed to publish there"}`)
	})
}

// TestNarrowerRights: a client that comes back with narrower rights loses what they do not allow.
func TestNarrowerRights(t *testing.T) {
	mine := "b"
	decide := deciderFunc(func(c *hook.Connect) (hook.Decision, error) {
		if c.ClientID != "p" {
			return hook.Decision{Verdict: hook.Accept}, nil
		}
		may := mine
		return hook.Decision{Verdict: hook.Accept, Rights: rightsFunc(func(_ hook.Action, topic string) bool { return topic <= may })}, nil
	})
	each(t, Options{Hooks: []any{decide}}, func(t *testing.T, h *harness) {
		mine = "b"
		pub := h.client(codec.V5, "pub")
		h.client(codec.V5, "p", keepFor(60)).subscribed(filter("a", 1), filter("b", 1)).cut()
		mine = "a"
		p := h.back(codec.V5, "p", keepFor(60))
		pub.send(publishPacket(codec.V5, "b", "x", 0, 0), publishPacket(codec.V5, "a", "x", 0, 0))
		p.expect(`PUBLISH q0 r0 d0 "a" "x"`)
		p.send(unsubscribePacket(codec.V5, 1, "b"))
		p.expect("UNSUBACK 1 [11]")
	})
}

// TestReauthorizeDuringDecision: rights that were found before they were
// replaced do not stand when the client comes in after it.
func TestReauthorizeDuringDecision(t *testing.T) {
	var h *harness
	old := rightsFunc(func(hook.Action, string) bool { return true })
	narrow := func(hook.Client, hook.Rights) hook.Rights {
		return rightsFunc(func(_ hook.Action, topic string) bool { return topic == "a" })
	}
	decide := deciderFunc(func(c *hook.Connect) (hook.Decision, error) {
		if c.ClientID == "p" {
			for _, l := range h.b.loops {
				l.post(func(l *loop) { l.reauthorizeFrom(0, narrow, make(chan struct{}, 1)) })
			}
		}
		return hook.Decision{Verdict: hook.Accept, Rights: old}, nil
	})
	each(t, Options{Hooks: []any{decide}}, func(t *testing.T, harness *harness) {
		h = harness
		p := h.client(codec.V5, "p")
		p.send(subscribePacket(codec.V5, 1, filter("a", 0), filter("b", 0)))
		p.expect("SUBACK 1 [00 87]")
		q := h.client(codec.V5, "q") // decided on afterwards
		q.send(subscribePacket(codec.V5, 1, filter("b", 0)))
		q.expect("SUBACK 1 [00]")
	})
}

// A prompt decider knows at once about everybody but "later".
type prompt struct{ deciderFunc }

func (p prompt) DecideNow(c *hook.Connect) *hook.Decision {
	d, err := p.deciderFunc(c)
	if err != nil || c.UserName == "later" {
		return nil
	}
	return &d
}

// Who can be decided on at once is: nobody waits for what is asked off the loop.
func TestPromptDeciders(t *testing.T) {
	ada, eve := prompt{acceptUser("ada")}, prompt{always(hook.Decision{Verdict: hook.Refuse, Code: codec.Banned, Reason: "out"})}
	const out, unknown = `CONNACK sp=0 8A {ReasonString="out"}`, `CONNACK sp=0 87 {ReasonString="not let in"}`
	for _, one := range []struct {
		user     string
		deciders []any
		atOnce   bool
		want     string // "": accepted
	}{
		{"ada", []any{ada, eve}, true, ""},
		{"ada", []any{ada, deciderFunc(failing)}, true, ""},
		{"eve", []any{ada, eve}, true, out},
		{"eve", []any{ada}, true, unknown},
		{"eve", []any{ada, deciderFunc(passing), eve}, false, out},
		{"later", []any{prompt{acceptUser("later")}, eve}, false, ""},
		{"later", []any{ada, prompt{acceptUser("later")}}, false, ""},
		{"ada", []any{prompt{failing}}, false, `CONNACK sp=0 88 {ReasonString="no decision possible now"}`},
	} {
		each(t, Options{Hooks: one.deciders, Listeners: closedListener()}, func(t *testing.T, h *harness) {
			h.held = true
			p := h.dial(codec.V5)
			p.send(connectPacket(codec.V5, "p", true, login(one.user, "secret")))
			if !one.atOnce {
				p.expect()
			}
			h.held = false
			if !one.atOnce {
				h.run()
			}
			if one.want == "" {
				p.expect(connackLine(codec.V5, false))
			} else {
				p.expectEnd(one.want)
			}
		})
	}
}
