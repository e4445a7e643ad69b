package codec

import (
	"bytes"
	"testing"
)

// TestPublishGolden holds PUBLISH packets beside their bytes, in both directions.
func TestPublishGolden(t *testing.T) {
	f := func(v Version, wire string, d Delivery, topic, payload string, props Properties) {
		t.Helper()
		got := AppendPublish(nil, v, &d, []byte(topic), []byte(payload), props)
		if string(got) != wire {
			t.Errorf("AppendPublish = % X\nwant            % X", got, wire)
		}
		if size := PublishSize(v, &d, len(topic), len(payload), len(props)); size != len(wire) {
			t.Errorf("PublishSize = %d, want %d", size, len(wire))
		}
		exact := make([]byte, 0, len(wire))
		if filled := AppendPublish(exact, v, &d, []byte(topic), []byte(payload), props); &filled[0] != &exact[:1][0] {
			t.Error("AppendPublish left a buffer that had room for the packet")
		}
		h, ok, err := ReadHeader([]byte(wire))
		if !ok || err != nil || h.Type != PUBLISH || h.Size+h.Remaining != len(wire) {
			t.Fatalf("ReadHeader = %+v, %v, %v", h, ok, err)
		}
		var p Publish
		if err := ParsePublish(&p, h.Flags, []byte(wire[h.Size:]), v, FromServer); err != nil {
			t.Fatalf("ParsePublish: %v", err)
		}
		if d.OmitTopic {
			topic = ""
		}
		if string(p.Topic) != topic || string(p.Payload) != payload || p.QoS != d.QoS || p.Dup != d.Dup ||
			p.Retain != d.Retain || p.PacketID != d.PacketID || p.TopicAlias != d.TopicAlias ||
			p.MessageExpiry != d.MessageExpiry || p.HasMessageExpiry != d.HasMessageExpiry {
			t.Errorf("ParsePublish = %+v, want %+v", p, d)
		}
		want := Properties{}
		for _, id := range d.SubscriptionIDs {
			want = AppendUint(want, SubscriptionIdentifier, id)
		}
		if v == V5 {
			want = append(want, props...)
		}
		if !bytes.Equal(p.Properties, want) {
			t.Errorf("Properties = % X, want % X", p.Properties, want)
		}
	}
	f(V311, "\x30\x05\x00\x01ahi", Delivery{}, "a", "hi", nil)
	f(V31, "\x38\x03\x00\x01a", Delivery{Dup: true}, "a", "", nil) // M31-dup0
	f(V311, "\x33\x07\x00\x03a/b\x00\x0A", Delivery{QoS: 1, Retain: true, PacketID: 10}, "a/b", "", nil)
	f(V311, "\x3C\x06\x00\x01a\xFF\xFE!", Delivery{QoS: 2, Dup: true, PacketID: 0xFFFE}, "a", "!", Properties("ignored"))
	f(V5, "\x30\x06\x00\x01a\x00hi", Delivery{}, "a", "hi", nil)
	f(V5, "\x32\x0D\x00\x01a\x00\x07\x05\x09\x00\x02\x00\xFFhi", Delivery{QoS: 1, PacketID: 7}, "a", "hi",
		AppendBytes(nil, CorrelationData, []byte{0, 0xFF}))
	f(V5, "\x30\x09\x00\x01a\x03\x23\x00\x05hi", Delivery{TopicAlias: 5}, "a", "hi", nil)
	f(V5, "\x30\x08\x00\x00\x03\x23\x00\x05hi", Delivery{TopicAlias: 5, OmitTopic: true}, "abc", "hi", nil)
	f(V5, "\x30\x1A\x00\x01a\x14\x23\x00\x05\x02\x00\x00\x00\x3C\x0B\x01\x0B\x80\x01\x26\x00\x01k\x00\x01vhi",
		Delivery{TopicAlias: 5, MessageExpiry: 60, HasMessageExpiry: true, SubscriptionIDs: []uint32{1, 128}}, "a", "hi",
		AppendUserProperty(nil, "k", "v"))
	f(V311, "\x30\x83\x01\x00\x01a"+string(make([]byte, 128)), Delivery{}, "a", string(make([]byte, 128)), nil)
}
