package codec

import (
	"bytes"
	"testing"
)

var timingCases = []struct {
	name     string
	v        Version
	delivery Delivery
	props    Properties
}{
	{"3.1.1 QoS 0", V311, Delivery{}, nil},
	{"3.1.1 QoS 1", V311, Delivery{QoS: QoS1, PacketID: 1}, nil},
	{"5.0 QoS 0", V5, Delivery{}, nil},
	{"5.0 QoS 1", V5, Delivery{QoS: QoS1, PacketID: 1}, nil},
	{"5.0 with properties", V5, Delivery{QoS: QoS1, PacketID: 1, MessageExpiry: 60, HasMessageExpiry: true},
		AppendUserProperty(AppendBytes(nil, ContentType, "text/plain"), "unit", "celsius")},
}

var (
	timingTopic   = []byte("sensors/building7/floor2/temperature")
	timingPayload = bytes.Repeat([]byte("x"), 64)
)

// BenchmarkParsePublish parses a PUBLISH of 64 bytes of payload; the copy of its body, which parsing
// may change, is part of the figure.
func BenchmarkParsePublish(b *testing.B) {
	for _, c := range timingCases {
		b.Run(c.name, func(b *testing.B) {
			packet := AppendPublish(nil, c.v, &c.delivery, timingTopic, timingPayload, c.props)
			h, _, _ := ReadHeader(packet)
			body := make([]byte, h.Remaining)
			b.ReportAllocs()
			b.SetBytes(int64(len(packet)))
			var p Publish
			for b.Loop() {
				copy(body, packet[h.Size:])
				if err := ParsePublish(&p, h.Flags, body, c.v, FromClient); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendPublish(b *testing.B) {
	for _, c := range timingCases {
		b.Run(c.name, func(b *testing.B) {
			dst := make([]byte, 0, 512)
			b.ReportAllocs()
			b.SetBytes(int64(PublishSize(c.v, &c.delivery, len(timingTopic), len(timingPayload), len(c.props))))
			for b.Loop() {
				dst = AppendPublish(dst[:0], c.v, &c.delivery, timingTopic, timingPayload, c.props)
			}
		})
	}
}

// BenchmarkCheckTopicName pays for the eight bytes at a time: "plain" is the check it replaces.
func BenchmarkCheckTopicName(b *testing.B) {
	for _, name := range []string{"a/b/c", string(timingTopic), "gebäude/größe"} {
		s := []byte(name)
		b.Run("words/"+name, func(b *testing.B) {
			for b.Loop() {
				if checkTopicName(s) != nil {
					b.Fatal("refused")
				}
			}
		})
		b.Run("plain/"+name, func(b *testing.B) {
			for b.Loop() {
				if checkTopicNameSlow(s) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}

func BenchmarkAck(b *testing.B) {
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		body := []byte{0, 7}
		for b.Loop() {
			if _, err := ParseAck(PUBACK, body, V5); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		dst := make([]byte, 0, 16)
		for b.Loop() {
			dst = AppendAck(dst[:0], V5, PUBACK, 7, Success, nil)
		}
	})
}
