package engine

import (
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// willAfter is a will on topic w.
func willAfter(delay uint32, payload string) func(*codec.Connect) {
	return willOf(codec.Will{Topic: []byte("w"), Payload: []byte(payload), DelayInterval: delay})
}

func TestWillFiresAtDelayOrSessionEnd(t *testing.T) {
	covers(t, "B-will-order")
	each(t, Options{}, func(t *testing.T, h *harness) {
		watch := h.client(codec.V5, "watch").subscribed(filter("w", 0))
		f := func(delay, expiry uint32, at time.Duration) {
			t.Helper()
			h.client(codec.V5, "c", keepFor(expiry), willAfter(delay, "will")).cut()
			if at > 0 {
				h.advance(at - 2*tick)
				watch.expectServed("")
				h.advance(4 * tick)
			}
			watch.expectServed("will")
			h.advance(20 * time.Second)
			watch.expectServed("") // once
		}
		f(10, 2, 2*time.Second)
		f(2, 10, 2*time.Second)
		f(10, 0, 0)
		f(0, 10, 0)
	})
}

func TestWillAtTakeover(t *testing.T) {
	covers(t, "B-will-takeover")
	each(t, Options{}, func(t *testing.T, h *harness) {
		watch := h.client(codec.V5, "watch").subscribed(filter("w", 0))
		f := func(delay, expiry uint32, clean, absent bool, want string) {
			t.Helper()
			old := h.client(codec.V5, "c", keepFor(expiry), willAfter(delay, "old"))
			if absent {
				old.cut()
				h.advance(time.Second)
			}
			now := h.dial(codec.V5)
			now.send(connectPacket(codec.V5, "c", clean, keepFor(expiry)))
			if ack := now.greeting(); ack.SessionPresent == (clean || expiry == 0) {
				t.Fatalf("session present %v", ack.SessionPresent)
			}
			watch.expectServed(want)
			now.send(disconnectPacket(codec.V5, 0))
			h.advance(30 * time.Second)
			watch.expectServed("")
		}
		f(0, 20, false, false, "old")
		f(5, 20, false, false, "") // the session goes on in time
		f(0, 20, true, false, "old")
		f(5, 20, true, false, "old") // the session ends
		f(5, 0, false, false, "old") // it ends with its connection, too
		f(5, 20, false, true, "")
		f(5, 20, true, true, "old")
	})
}

// A connection that is lost before it has the session does not cost the will
// of the one before.
func TestWillOutlivesAConnectionThatNeverWas(t *testing.T) {
	h := newHarness(t, 2, Options{})
	watch := h.client(codec.V5, "watch").subscribed(filter("w", 0))
	old := h.dialOn(0, codec.V5)
	old.send(connectPacket(codec.V5, "c", true, keepFor(60), willAfter(5, "old")))
	old.cut()
	now := h.dialOn(1, codec.V5)
	now.post(connectPacket(codec.V5, "c", false, keepFor(60), willAfter(0, "new")))
	now.cut() // its session is still on the way
	watch.expectServed("")
	h.advance(4 * time.Second)
	watch.expectServed("")
	h.advance(2 * time.Second)
	watch.expectServed("old")
	h.back(codec.V5, "c")
}

func TestWillAtDisconnect(t *testing.T) {
	covers(t, "B-will-disc-exp", "B-will-04")
	each(t, Options{}, func(t *testing.T, h *harness) {
		watch := h.client(codec.V5, "watch").subscribed(filter("w", 0))
		f := func(code codec.ReasonCode, delay uint32, props codec.Properties, want string) {
			t.Helper()
			c := h.client(codec.V5, "c", keepFor(60), willAfter(delay, "will"))
			d := codec.Disconnect{Code: code, Properties: props}
			c.send(d.Append(nil, codec.V5))
			c.expectEnd()
			watch.expectServed(want)
		}
		f(codec.Success, 0, nil, "")
		f(codec.DisconnectWithWill, 0, nil, "will")
		f(codec.UnspecifiedError, 0, nil, "will")
		f(codec.ReceiveMaximumExceeded, 0, nil, "will")
		ends := codec.AppendUint(nil, codec.SessionExpiryInterval, 0)
		f(codec.DisconnectWithWill, 1000, ends, "will") // with the session
		f(codec.Success, 1000, ends, "")
		f(codec.DisconnectWithWill, 1000, nil, "")
	})
}

// rules is an Authorizer made of what is denied.
type rules func(c hook.Client, a hook.Action, topic string) (denied bool)

func (r rules) Authorize(c hook.Client, a hook.Action, topic []byte) bool {
	return !r(c, a, string(topic))
}

func TestWillNeedsThePermissionToPublish(t *testing.T) {
	covers(t, "B-will-acl")
	denied := "w"
	o := Options{Hooks: []any{rules(func(c hook.Client, a hook.Action, topic string) bool {
		return a == hook.PublishWill && c.UserName == "guest" && topic == denied
	})}}
	each(t, o, func(t *testing.T, h *harness) {
		watch := h.client(codec.V5, "watch").subscribed(filter("#", 0), filter("$SYS/#", 0))
		for _, v := range versions {
			h.client(v, "c", login("guest", ""), willAfter(0, "guest")).cut()
			watch.expectServed("")
			h.client(v, "c", login("member", ""), willAfter(0, "member")).cut()
			watch.expectServed("member")
			// the name of an earlier connection does not stick to the session
			h.client(v, "c", login("guest", ""), keepForIn(v, 60)).cut()
			again := h.dial(v)
			again.send(connectPacket(v, "c", false, willAfter(0, "nobody")))
			again.cut()
			watch.expectServed("nobody")
			h.client(v, "c", willOf(codec.Will{Topic: []byte("$SYS/x"), Payload: []byte("sys")})).cut()
			h.client(v, "c", willOf(codec.Will{Topic: []byte("$SYS"), Payload: []byte("sys")})).cut()
			watch.expectServed("")
		}
		// the rights are those at the time it fires
		c := h.client(codec.V5, "c", login("guest", ""), willOf(codec.Will{Topic: []byte("v"), Payload: []byte("v")}))
		denied = "v"
		c.cut()
		watch.expectServed("")
		denied = "w"
	})
}

func TestWillExpiryCountsFromItsPublication(t *testing.T) {
	covers(t, "B-will-props")
	each(t, Options{}, func(t *testing.T, h *harness) {
		watch := h.client(codec.V5, "watch").subscribed(filter("w", 0))
		h.client(codec.V5, "late", keepFor(60)).subscribed(filter("w", 1)).cut()
		props := codec.AppendUserProperty(codec.AppendBytes(nil, codec.ContentType, "text"), "k", "v")
		h.client(codec.V5, "c", keepFor(60), willOf(codec.Will{Topic: []byte("w"), Payload: []byte("p"), QoS: 1,
			DelayInterval: 5, MessageExpiry: 3, HasMessageExpiry: true, Properties: props})).cut()
		h.advance(5*time.Second + 2*tick)
		watch.expect(`PUBLISH q0 r0 d0 "w" "p" expiry=3 {ContentType="text" UserProperty="k":"v"}`)
		h.advance(time.Second)
		late := h.back(codec.V5, "late", keepFor(60))
		late.expect(`PUBLISH q1 r0 d0 id=1 "w" "p" expiry=2 {ContentType="text" UserProperty="k":"v"}`)
	})
}

func TestEmptyRetainedWillClears(t *testing.T) {
	covers(t, "B-will-clear")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			pub := h.client(v, "pub")
			pub.send(publishPacket(v, "w", "1", 0, 0, retain))
			early := h.client(v, "early").subscribed(filter("w", 0))
			early.expectServed("1")
			h.client(v, "c", willOf(codec.Will{Topic: []byte("w"), Retain: true})).cut()
			early.expect(`PUBLISH q0 r0 d0 "w" ""`)
			early.cut()
			late := h.client(v, "late").subscribed(filter("w", 0))
			late.expect()
			late.cut()
		}
	})
}
