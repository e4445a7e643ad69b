package engine

import (
	"fmt"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
)

func TestUnsubscribeMalformed(t *testing.T) {
	covers(t, "MQTT-3.10.1-1", "MQTT-3.10.3-1", "MQTT-3.10.3-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, f := range []string{"A0", "A1", "A3", "A6"} {
			h.fault(codec.V5, f+" 06 0001 00 0001 61", 0x81)
			h.fault(codec.V311, f+" 05 0001 0001 61", 0)
			h.fault(codec.V31, f+" 05 0001 0001 61", 0)
		}
		h.fault(codec.V5, "AA 06 0001 00 0001 61", 0x81)
		h.fault(codec.V311, "AA 05 0001 0001 61", 0)
		for _, s := range []string{"C328", "FF61", "EDA080", "6100"} {
			n := len(s) / 2
			h.fault(codec.V5, fmt.Sprintf("A2 %02X 0001 00 %04X %s", 5+n, n, s), 0x81)
			h.fault(codec.V311, fmt.Sprintf("A2 %02X 0001 %04X %s", 4+n, n, s), 0)
		}
		h.fault(codec.V5, "A2 03 0001 00", 0x82)
		h.fault(codec.V311, "A2 02 0001", 0)
		h.fault(codec.V31, "A2 02 0001", 0)
		h.fault(codec.V5, "A2 06 0001 00 0002 61", 0x81) // a field longer than the packet
		h.fault(codec.V5, "A2 05 0000 00 0001", 0x82)    // packet identifier 0
	})
}

func TestUnsubscribeComparesCharacters(t *testing.T) {
	covers(t, "MQTT-3.10.4-1", "MQTT-3.10.4-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			p, pub := h.client(v, "p"), h.client(v, "pub")
			p.subscribed(filter("a/#", 0))
			for _, other := range []string{"a/+", "A/#", "a/", "a", "#", "a/# ", "/a/#", "a/b"} {
				p.send(unsubscribePacket(v, 1, other))
				p.all()
				pub.send(publishPacket(v, "a/b", "still", 0, 0))
				p.expect(`PUBLISH q0 r0 d0 "a/b" "still"`)
			}
			p.send(unsubscribePacket(v, 2, "a/#"))
			p.all()
			for qos := codec.QoS(0); qos <= 2; qos++ {
				pub.send(publishPacket(v, "a/b", "gone", qos, 5))
			}
			p.expect()
		}
	})
}

func TestUnsubscribeAnswered(t *testing.T) {
	covers(t, "MQTT-3.10.4-4", "MQTT-3.10.4-5", "MQTT-3.10.4-6", "MQTT-3.11.3-1", "MQTT-3.11.3-2")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			p, pub := h.client(v, "p"), h.client(v, "pub")
			answer := func(id uint16, codes string) string {
				if v != codec.V5 {
					codes = ""
				}
				return fmt.Sprintf("UNSUBACK %d [%s]", id, codes)
			}
			p.subscribed(filter("a", 0), filter("b/+", 1), filter("c", 2))
			p.send(unsubscribePacket(v, 65535, "none"))
			p.expect(answer(65535, "11"))
			p.send(unsubscribePacket(v, 0x1234, "a", "none", "c"))
			p.expect(answer(0x1234, "00 11 00"))
			pub.send(publishPacket(v, "a", "m", 0, 0), publishPacket(v, "b/1", "m", 0, 0), publishPacket(v, "c", "m", 0, 0))
			p.expect(`PUBLISH q0 r0 d0 "b/1" "m"`)
			p.send(unsubscribePacket(v, 3, "b/+", "b/+", "a#", "", "$share/g", "c"))
			p.expect(answer(3, "00 11 11 11 11 11"))
		}
	})
}

func TestUnsubscribeLeavesBegunDeliveries(t *testing.T) {
	covers(t, "MQTT-3.10.4-3")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			for _, reconnect := range []bool{false, true} {
				p := h.dial(v)
				p.send(connectPacket(v, "p", false, keepForIn(v, 100)))
				p.all()
				pub := h.client(v, "pub")
				p.subscribed(filter("t", 2))
				pub.send(publishPacket(v, "t", "two", 2, 1), publishPacket(v, "t", "one", 1, 2))
				p.expect(`PUBLISH q2 r0 d0 id=1 "t" "two"`, `PUBLISH q1 r0 d0 id=2 "t" "one"`)
				p.send(unsubscribePacket(v, 9, "t"))
				p.all()
				if reconnect {
					p.cut()
					p = h.back(v, "p", keepForIn(v, 100))
					p.expect(`PUBLISH q2 r0 d1 id=1 "t" "two"`, `PUBLISH q1 r0 d1 id=2 "t" "one"`)
				}
				p.send(ackPacket(v, codec.PUBREC, 1, 0))
				p.expect("PUBREL 1 00")
				p.send(ackPacket(v, codec.PUBCOMP, 1, 0), ackPacket(v, codec.PUBACK, 2, 0))
				p.expect()
				p.cut()
				p = h.back(v, "p", keepForIn(v, 100))
				p.expect() // both are finished
				h.client(v, "p").send(disconnectPacket(v, 0))
			}
		}
	})
}

func TestPing(t *testing.T) {
	covers(t, "MQTT-3.12.4-1", "U5-3.12-len")
	each(t, Options{}, func(t *testing.T, h *harness) {
		for _, v := range versions {
			p := h.client(v, "p")
			p.hex("C000")
			if f := p.frame(); fmt.Sprintf("%X", f) != "D000" {
				t.Fatalf("%v: PINGREQ is answered by %X", v, f)
			}
			p.hex("C000 C000 C000")
			p.expect("PINGRESP", "PINGRESP", "PINGRESP")
			h.fault(v, "C001 00", 0x81)
			h.fault(v, "C0 8000", 0x81)             // length in more bytes than it takes
			h.fault(v, "D000", codec.ProtocolError) // only servers send it
		}
		h.fault(codec.V5, "C1 00", 0x81)
		h.fault(codec.V311, "C1 00", 0)
	})
}
