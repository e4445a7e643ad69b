package codec

import "testing"

// TestNoAllocs holds the promise that the packets of a running connection cost no allocation.
func TestNoAllocs(t *testing.T) {
	f := func(name string, call func() error) {
		t.Helper()
		var err error
		if got := testing.AllocsPerRun(100, func() { err = call() }); got != 0 || err != nil {
			t.Errorf("%s: %v allocations, error %v", name, got, err)
		}
	}
	var (
		p         Publish
		s         = Subscribe{Filters: make([]Subscription, 0, 8)}
		u         = Unsubscribe{Filters: make([][]byte, 0, 8)}
		suback    = Suback{Codes: make([]ReasonCode, 0, 8)}
		dst       = make([]byte, 0, 512)
		scratch   = make([]byte, 512)
		topicName = []byte("sensors/room/temperature")
		payload   = make([]byte, 64)
		message   = AppendUserProperty(AppendBytes(nil, ContentType, "text/plain"), "k", "v")
		delivery  = Delivery{PacketID: 7, QoS: 1, TopicAlias: 3, MessageExpiry: 60, HasMessageExpiry: true, SubscriptionIDs: []uint32{1, 2}}
	)
	// parse gives each run a fresh copy of the body, since parsing may change it.
	parse := func(v Version, wire []byte, call func(body []byte) error) func() error {
		h, _, _ := ReadHeader(wire)
		return func() error { return call(append(scratch[:0], wire[h.Size:]...)) }
	}
	v5 := AppendPublish(nil, V5, &delivery, topicName, payload, message)
	v311 := AppendPublish(nil, V311, &delivery, topicName, payload, nil)
	f("ReadHeader", func() error { _, _, err := ReadHeader(v5); return err })
	f("ParsePublish 5.0", parse(V5, v5, func(b []byte) error { return ParsePublish(&p, 2, b, V5, FromServer) }))
	f("ParsePublish 3.1.1", parse(V311, v311, func(b []byte) error { return ParsePublish(&p, 2, b, V311, FromClient) }))
	f("AppendPublish 5.0", func() error { AppendPublish(dst, V5, &delivery, topicName, payload, message); return nil })
	f("AppendPublish 3.1.1", func() error { AppendPublish(dst, V311, &delivery, topicName, payload, nil); return nil })

	ack := AppendAck(nil, V5, PUBREC, 7, NotAuthorized, AppendBytes(nil, ReasonString, "no"))
	f("ParseAck", parse(V5, ack, func(b []byte) error { _, err := ParseAck(PUBREC, b, V5); return err }))
	f("AppendAck", func() error { AppendAck(dst, V5, PUBACK, 7, Success, nil); return nil })

	subscribe := (&Subscribe{PacketID: 1, SubscriptionID: 3, Filters: []Subscription{{Filter: topicName}}}).Append(nil, V5)
	f("ParseSubscribe", parse(V5, subscribe, func(b []byte) error { return ParseSubscribe(&s, b, V5) }))
	f("Subscribe.Append", func() error { s.Append(dst, V5); return nil })
	unsubscribe := (&Unsubscribe{PacketID: 1, Filters: [][]byte{topicName}}).Append(nil, V5)
	f("ParseUnsubscribe", parse(V5, unsubscribe, func(b []byte) error { return ParseUnsubscribe(&u, b, V5) }))
	codes := (&Suback{PacketID: 1, Codes: []ReasonCode{Success, GrantedQoS1}}).Append(nil, V5)
	f("ParseSuback", parse(V5, codes, func(b []byte) error { return ParseSuback(&suback, b, V5) }))
	f("Suback.Append", func() error { suback.Append(dst, V5); return nil })

	// Slow path: what is refused costs nothing either.
	bad := []byte("\x00\x03a/#\x00")
	f("refused PUBLISH", func() error {
		if ParsePublish(&p, 0, bad, V5, FromClient) == nil {
			return errTopicName
		}
		return nil
	})
}
