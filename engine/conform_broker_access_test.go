package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

func TestDeniedFilter(t *testing.T) {
	covers(t, "B-sub-acl")
	o := Options{Hooks: []any{rules(func(c hook.Client, a hook.Action, topic string) bool {
		return a == hook.Subscribe && (topic == "no/#" || topic == "no/one")
	})}}
	each(t, o, func(t *testing.T, h *harness) {
		f := func(v codec.Version, want string) {
			t.Helper()
			p := h.client(v, "p")
			p.send(subscribePacket(v, 1, filter("no/#", 1), filter("yes", 1), filter("$share/g/no/one", 1)))
			if got := codesOf(p); got != want {
				t.Errorf("version %v: got %s, want %s", v, got, want)
			}
			pub := h.client(v, "pub")
			pub.send(publishPacket(v, "no/one", "denied", 0, 0), publishPacket(v, "yes", "granted", 0, 0))
			p.expectServed("granted")
			p.cut()
		}
		f(codec.V5, "SUBACK 1 [87 01 87]")
		f(codec.V311, "SUBACK 1 [80 01 80]")
	})
}

// secrets grants every filter and decides at each delivery.
type secrets struct{ denied *string }

func (s secrets) AuthorizeDelivery(c hook.Client, topic []byte) bool {
	return c.ClientID == "master" || string(topic) != *s.denied
}

func TestWildcardsDoNotLeak(t *testing.T) {
	covers(t, "B-acl-time")
	denied := "a/secret"
	each(t, Options{Hooks: []any{secrets{&denied}}}, func(t *testing.T, h *harness) {
		denied = "a/secret"
		h.keep("a/secret", "retained")
		sub := h.client(codec.V5, "sub", keepFor(60)).subscribed(filter("a/#", 1), filter("#", 0), filter("$share/g/+/secret", 1))
		master := h.client(codec.V5, "master").subscribed(filter("a/#", 1))
		master.expectServed("retained")
		pub := h.client(codec.V5, "pub")
		publish := func() {
			for qos := codec.QoS(0); qos <= 2; qos++ {
				pub.send(publishPacket(codec.V5, "a/secret", "s", qos, uint16(qos)), publishPacket(codec.V5, "a/other", "o", qos, uint16(10*qos)))
				pub.serve()
			}
		}
		publish()
		sub.expectServed("o o o")
		sub.cut()
		publish()
		sub = h.back(codec.V5, "sub", keepFor(60))
		sub.expectServed("o o")
		denied = "a/other" // at run time
		publish()
		if got := strings.Join(sub.serve(), ""); strings.Contains(got, "o") || !strings.Contains(got, "s") {
			t.Errorf("got %q", got)
		}
		if got := len(master.serve()); got != 18 {
			t.Errorf("%d messages came to who may read all, want 18", got)
		}
	})
}

// gate refuses by client identifier and password.
type gate struct{}

func (gate) Authenticate(c *hook.Connect) codec.ReasonCode {
	switch {
	case c.ClientID == "banned":
		return codec.NotAuthorized
	case string(c.Password) != "right":
		return codec.BadUserNameOrPassword
	}
	return codec.Success
}

func TestLoginCodes(t *testing.T) {
	covers(t, "B-login-codes")
	each(t, Options{Hooks: []any{gate{}}}, func(t *testing.T, h *harness) {
		f := func(v codec.Version, id, password string, want byte) {
			t.Helper()
			p := h.dial(v)
			p.send(connectPacket(v, id, true, login("user", password)))
			got := codesOf(p)
			if got != fmt.Sprintf("CONNACK sp=0 %02X", want) || p.closed != (want != 0) {
				t.Errorf("version %v: got %s, closed %v, want code %02X", v, got, p.closed, want)
			}
			p.cut()
		}
		for _, v := range []codec.Version{codec.V31, codec.V311} {
			f(v, "c", "wrong", 4)
			f(v, "banned", "right", 5)
			f(v, "c", "right", 0)
		}
		f(codec.V5, "c", "wrong", 0x86)
		f(codec.V5, "banned", "right", 0x87)
		f(codec.V5, "c", "right", 0)
	})
	// without anyone to ask, and nobody let in without a name
	h := newHarness(t, 1, Options{Listeners: []Listener{{Address: "harness:1883"}}})
	for _, v := range versions {
		p := h.dial(v)
		p.send(connectPacket(v, "c", true))
		want := map[codec.Version]string{codec.V5: "CONNACK sp=0 87"}[v]
		if want == "" {
			want = "CONNACK sp=0 05"
		}
		if got := codesOf(p); got != want || !p.closed {
			t.Errorf("version %v: got %s, want %s", v, got, want)
		}
	}
}

func TestUnknownVersionIsToldSo(t *testing.T) {
	covers(t, "B-ver-connack")
	each(t, Options{}, func(t *testing.T, h *harness) {
		f := func(level, want string) {
			t.Helper()
			p := h.dial(codec.V5)
			p.hex("10 10 0004 4D515454" + level + "02 003C 00 0003 616263")
			if got := fmt.Sprintf("%X", p.in); !strings.HasPrefix(got, want) || !p.closed {
				t.Errorf("level %s: got %s, closed %v, want %s", level, got, p.closed, want)
			}
		}
		f("06", "20")
		f("02", "20020001")
		f("00", "20020001")
		f("FF", "20")
		p := h.dial(codec.V5)
		p.hex("10 10 0004 4D515454 06 02 003C 00 0003 616263")
		if got := codesOf(p); got != "CONNACK sp=0 84" {
			t.Errorf("level 6: got %s", got)
		}
	})
}

func TestClientIdentifierCharacters(t *testing.T) {
	covers(t, "B-clientid-chars")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			for _, id := range []string{"dev/1:ü", "a b-c", "+#$", "日本", strings.Repeat("long", 100), "\U0001F600", "x\ty"} {
				if v == codec.V31 && len([]rune(id)) > 23 { // M31: the limit is that version's
					continue
				}
				p := h.dial(v)
				p.send(connectPacket(v, id, true))
				if got := codesOf(p); got != "CONNACK sp=0 00" && !(id == "x\ty" && p.closed) {
					t.Errorf("version %v, identifier %q: got %s", v, id, got)
				}
				p.cut()
			}
		}
	})
}

func TestSysIsForTheBrokerOnly(t *testing.T) {
	covers(t, "B-sys")
	each(t, Options{}, func(t *testing.T, h *harness) {
		watch := h.client(codec.V5, "watch").subscribed(filter("$SYS/#", 0), filter("$SYSTEM", 0), filter("$other/#", 0))
		for _, v := range versions {
			p := h.client(v, "p")
			p.send(publishPacket(v, "$SYS/x", "", 1, 1), publishPacket(v, "$SYS", "", 2, 2, retain), publishPacket(v, "$SYS/x", "", 0, 0))
			code := "87"
			if v != codec.V5 { // told nothing, and ignored
				code = "00"
			}
			if got := codesOf(p); got != "PUBACK 1 "+code+",PUBREC 2 "+code || p.closed {
				t.Errorf("version %v: got %s, closed %v", v, got, p.closed)
			}
			watch.expectServed("")
			p.send(publishPacket(v, "$SYSTEM", "1", 0, 0), publishPacket(v, "$other/x", "2", 0, 0)) // are no one's
			watch.expectServed("1 2")
			p.cut()
		}
		h.client(codec.V5, "late").subscribed(filter("$SYS/#", 0)).expect()
	})
	h := newHarness(t, 1, Options{SysInterval: time.Second, Listeners: []Listener{{Address: "harness:1883", Anonymous: true}}})
	h.advance(3 * time.Second)
	for _, v := range []codec.Version{codec.V311, codec.V5} {
		p := h.client(v, "p")
		p.send(subscribePacket(v, 1, filter("$SYS/#", 0), filter("$SYS", 0), filter("$SYS/broker/+", 0), filter("$share/g/$SYS/#", 0), filter("#", 0), filter("+/broker/uptime", 0)))
		code := map[codec.Version]string{codec.V5: "87", codec.V311: "80"}[v]
		if got, want := codesOf(p), strings.ReplaceAll("SUBACK 1 [x x x x 00 00]", "x", code); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		h.advance(3 * time.Second)
		p.expect()
	}
}
