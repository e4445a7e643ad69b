package load

import (
	"fmt"
	"math"
)

func (r *messagesRun) packet(c *conn, first byte, body []byte, now int64) error {
	if c.publisher {
		return r.publisherPacket(&r.publishers[c.index], first, body)
	}
	return r.subscriberPacket(c, first, body, now)
}

// publisherPacket takes the acknowledgements of what was published.
func (r *messagesRun) publisherPacket(p *publisher, first byte, body []byte) error {
	packetID, err := parseAck(r.speaks, first, body)
	if err != nil {
		return err
	}
	if err := p.acknowledge(first, packetID); err != nil {
		return err
	}
	r.mark(p)
	return nil
}

// subscriberPacket takes deliveries and answers them; the answers of one read leave in one write.
func (r *messagesRun) subscriberPacket(c *conn, first byte, body []byte, now int64) error {
	if first&0xf0 == publishPacket {
		payload, err := receive(c, r.speaks, first, body, r.QoS)
		if err != nil {
			return err
		}
		return r.deliver(c, payload, now)
	}
	return release(c, r.speaks, first, body)
}

// receive takes a PUBLISH of the expected QoS apart and answers it; payload is borrowed.
func receive(c *conn, v Version, first byte, body []byte, want int) (payload []byte, err error) {
	qos, packetID, payload, err := parsePublish(v, first, body)
	if err != nil {
		return nil, err
	}
	if int(qos) != want {
		return nil, fmt.Errorf("load: message with QoS %d, published was QoS %d", qos, want)
	}
	switch qos {
	case 1:
		c.out = appendAck(c.out, pubackPacket, packetID)
	case 2:
		c.out = appendAck(c.out, pubrecPacket, packetID)
	}
	return payload, nil
}

// release answers a PUBREL; nothing else may come to a subscriber beside messages.
func release(c *conn, v Version, first byte, body []byte) error {
	if first != pubrelPacket || c.qos != 2 {
		return fmt.Errorf("load: packet 0x%02x at a subscriber", first)
	}
	packetID, err := parseAck(v, first, body)
	if err != nil {
		return err
	}
	c.out = appendAck(c.out, pubcompPacket, packetID)
	return nil
}

// deliver counts one message at one subscriber and, if it was not there before, frees its place.
func (r *messagesRun) deliver(c *conn, payload []byte, now int64) error {
	if len(payload) != r.Payload {
		return fmt.Errorf("load: message of %d bytes, published were %d", len(payload), r.Payload)
	}
	s := readStamp(payload)
	if s.run != r.topics.run || s.publisher >= uint32(r.Publishers) {
		return fmt.Errorf("load: message of another run")
	}
	if r.Mapping == Pairs && s.publisher != uint32(c.index) {
		return fmt.Errorf("load: message of publisher %d", s.publisher)
	}
	p := &r.publishers[s.publisher]
	sequence, ok := p.sequenceOf(s)
	if !ok {
		return fmt.Errorf("load: message %d of publisher %d was never sent", s.sequence, s.publisher)
	}
	if c.slow {
		r.slowGot++
		return nil
	}
	if r.observe(c, p.index, sequence) == duplicate {
		return nil
	}
	r.record(now - s.due)
	if p.delivered(sequence) {
		r.mark(p)
	}
	return nil
}

// observe notes the message in its stream. Members of a share each get a part of a publisher's
// messages: those must come in order at each of them, and once at all of them together.
func (r *messagesRun) observe(c *conn, publisher int, sequence uint64) arrival {
	s := &r.streams[r.at(publisher, c.index)]
	before := s.late + s.duplicate
	got := s.observe(sequence)
	if r.Mapping == Shared {
		if got == late {
			s.late-- // another member's turn
		}
		newest := &r.newest[publisher*r.Subscribers+c.index]
		if got != duplicate && uint32(sequence) < *newest && *newest-uint32(sequence) < math.MaxInt32 {
			s.late++
		}
		*newest = uint32(sequence) + 1
	}
	r.flawed += s.late + s.duplicate - before
	return got
}

// at is the index of the stream from this publisher to this subscriber.
func (r *messagesRun) at(publisher, subscriber int) int {
	if r.Mapping == Pairs || r.Mapping == Shared {
		return publisher
	}
	return publisher*r.Subscribers + subscriber
}

// account adds what each stream lost, doubled and reordered.
func (r *messagesRun) account(res *Result) {
	var toSlow uint64
	for i := range r.publishers {
		p := &r.publishers[i]
		res.Sent += p.sent
		toSlow += p.sent * uint64(r.Slow)
		first, last := r.Slow, r.Subscribers
		switch r.Mapping {
		case Pairs:
			first, last = i, i+1
		case Shared:
			first, last = -1, 0
		}
		for j := first; j < last; j++ {
			s := &r.streams[r.at(i, j)]
			res.addFlaw(Flaw{Publisher: i, Subscriber: j, Lost: s.lost(p.sent), Duplicate: s.duplicate, Late: s.late})
		}
	}
	res.rankFlaws()
	r.notes(res, toSlow)
}

func (r *messagesRun) notes(res *Result, toSlow uint64) {
	if r.Slow > 0 {
		res.Notes = append(res.Notes, fmt.Sprintf("slow subscribers: %d, of which the broker disconnected %d; they got %d of %d messages in time",
			r.Slow, r.slowClosed, r.slowGot, toSlow))
	}
	narrowest := r.Window
	for i := range r.publishers {
		narrowest = min(narrowest, len(r.publishers[i].slots))
	}
	if narrowest < r.Window {
		res.Notes = append(res.Notes, fmt.Sprintf("the broker's Receive Maximum narrows the window from %d to %d", r.Window, narrowest))
	}
}
