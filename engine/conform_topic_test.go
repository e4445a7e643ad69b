package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
)

func TestTopicNameRefused(t *testing.T) {
	covers(t, "MQTT-4.7.0-1", "MQTT-4.7.3-1", "MQTT-4.7.3-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, name := range []string{"23", "2B", "612F2B2F62", "612F23", "612B", "2361"} { // wildcards
			n := len(name) / 2
			h.fault(codec.V5, fmt.Sprintf("30 %02X %04X %s 00", n+3, n, name), 0x90)
			h.fault(codec.V311, fmt.Sprintf("30 %02X %04X %s", n+2, n, name), 0)
			h.fault(codec.V31, fmt.Sprintf("30 %02X %04X %s", n+2, n, name), 0)
		}
		h.fault(codec.V5, "30 03 0000 00", 0x82) // empty, and no alias
		h.fault(codec.V311, "30 02 0000", 0)
		h.fault(codec.V31, "30 02 0000", 0)
		h.fault(codec.V5, "30 06 0003 610062 00", 0x81) // NUL
		h.fault(codec.V311, "30 05 0003 610062", 0)
		h.fault(codec.V5, "82 0B 0001 00 0005 612F002F62 00", 0x81)
		h.fault(codec.V311, "82 0A 0001 0005 612F002F62 00", 0)
		h.fault(codec.V5, "A2 08 0001 00 0003 610062", 0x81)
		h.fault(codec.V311, "A2 07 0001 0003 610062", 0)
		h.fault(codec.V311, "82 05 0001 0000 00", 0) // empty filter
		p := h.client(codec.V5, "p")
		p.send(subscribePacket(codec.V5, 1, filter("", 0)))
		p.expect("SUBACK 1 [8F]")
	})
}

// delivers subscribes to f alone and reports whether a message to name comes.
func (h *harness) delivers(v codec.Version, f, name string) bool {
	h.t.Helper()
	p := h.client(v, "delivers").subscribed(filter(f, 0))
	h.client(v, "pub").send(publishPacket(v, name, "m", 0, 0))
	got := p.all()
	if len(got) > 1 || len(got) == 1 && got[0] != fmt.Sprintf(`PUBLISH q0 r0 d0 %q "m"`, name) {
		h.t.Fatalf("filter %q, topic %q: got %v", f, name, got)
	}
	p.send(disconnectPacket(v, 0))
	return len(got) == 1
}

func TestWildcards(t *testing.T) {
	covers(t, "MQTT-4.7.1-1", "MQTT-4.7.1-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range []codec.Version{codec.V311, codec.V5} {
			p, code := h.client(v, "p"), "80"
			if v == codec.V5 {
				code = "8F"
			}
			for _, f := range []string{"a#", "a/#/b", "#/a", "##", "a/b#", "+#", "a+", "+a", "a/b+", "a/+b/c", "++"} {
				p.send(subscribePacket(v, 1, filter(f, 0)))
				p.expect("SUBACK 1 [" + code + "]")
			}
			f := func(f, name string, want bool) {
				t.Helper()
				if got := h.delivers(v, f, name); got != want {
					t.Errorf("%v: filter %q, topic %q: %v", v, f, name, got)
				}
			}
			f("#", "a", true)
			f("#", "/a/b", true)
			f("a/#", "a", true)
			f("a/#", "a/", true)
			f("a/#", "a/b/c", true)
			f("a/#", "ab", false)
			f("a/+/#", "a", false)
			f("a/+/#", "a/b", true)
			f("+", "a", true)
			f("+", "a/b", false)
			f("+", "/a", false)
			f("/+", "/a", true)
			f("+/+", "/a", true)
			f("+/a", "b/a", true)
			f("+/a", "b/c/a", false)
			f("a/+/b", "a/x/b", true)
			f("a/+/b", "a//b", true)
			f("a/+/b", "a/x/y/b", false)
			f("a/+", "a", false)
			f("a/+", "a/", true)
		}
	})
}

func TestDollarTopics(t *testing.T) {
	covers(t, "MQTT-4.7.2-1")
	each(t, Options{SysInterval: time.Second}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			wild := h.client(v, "wild").subscribed(filter("#", 0), filter("+/broker/uptime", 0), filter("+/#", 0), filter("+/x", 0))
			sys := h.client(v, "sys").subscribed(filter("$SYS/broker/uptime", 0))
			below := h.client(v, "below").subscribed(filter("$own/+", 0))
			sys.all()
			pub := h.client(v, "pub")
			pub.send(publishPacket(v, "$own/x", "m", 1, 1))
			h.advance(2 * time.Second)
			wild.expect()
			below.expect(`PUBLISH q0 r0 d0 "$own/x" "m"`)
			got := sys.all()
			if len(got) == 0 || !strings.HasPrefix(got[0], `PUBLISH q0 r0 d0 "$SYS/broker/uptime"`) {
				t.Errorf("$SYS: got %v", got)
			}
			all := h.client(v, "all").subscribed(filter("$SYS/#", 0))
			if got := all.all(); len(got) < 20 {
				t.Errorf("$SYS/#: got %v", got)
			}
			pub.send(publishPacket(v, "x", "$ elsewhere", 0, 0), publishPacket(v, "a/$own", "m", 0, 0))
			wild.expect(`PUBLISH q0 r0 d0 "x" "$ elsewhere"`, `PUBLISH q0 r0 d0 "a/$own" "m"`)
			for _, p := range []*peer{wild, sys, below, all} {
				p.send(disconnectPacket(v, 0))
			}
		}
	})
}

func TestLongestTopic(t *testing.T) {
	covers(t, "MQTT-4.7.3-3")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			name := strings.Repeat("t", 65535)
			p := h.client(v, "p").subscribed(filter(name, 1))
			p.send(publishPacket(v, name, "m", 1, 1))
			got := p.all()
			if len(got) != 2 || got[0] != fmt.Sprintf(`PUBLISH q1 r0 d0 id=1 %q "m"`, name) {
				t.Errorf("%v: got %d packets", v, len(got))
			}
			p.send(unsubscribePacket(v, 1, name))
			p.all()
			p.send(publishPacket(v, name, "m", 0, 0))
			p.expect()
		}
	})
}

func TestTopicsAreNotNormalised(t *testing.T) {
	covers(t, "MQTT-4.7.3-4")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			names := []string{"a", "A", "a ", " a", "/a", "a/", "a//b", "a/b", "//a", "\u00e9", "e\u0301", "\ufb01", "fi", "\ufeffa"}
			p := h.client(v, "p")
			pub := h.client(v, "pub")
			for _, f := range names {
				p.subscribed(filter(f, 0))
				for _, name := range names {
					pub.send(publishPacket(v, name, "m", 0, 0))
				}
				p.expect(fmt.Sprintf(`PUBLISH q0 r0 d0 %q "m"`, f))
				p.send(unsubscribePacket(v, 1, f))
				p.all()
			}
		}
	})
}
