package load

import "fmt"

// A slotState is how far the publisher's handshake of one message has come.
type slotState uint8

const (
	slotFree     slotState = iota // may carry the next message;             -> slotSent, slotAcked
	slotSent                      // awaits PUBACK or PUBREC;                -> slotReleased, slotAcked
	slotReleased                  // QoS 2, PUBREL sent, awaits PUBCOMP;     -> slotAcked
	slotAcked                     // done at QoS 1 and 2, always at QoS 0;   -> slotFree
)

// A slot is the place of one message in flight.
type slot struct {
	sequence  uint64
	at        int64 // driver's clock when it was sent
	awaited   int32 // subscribers that have not received it
	handshake slotState
}

// A publisher sends the messages of one client, at most its window in flight.
//
// Message n uses slot n mod window and packet identifier slot+1, so a message waits while the
// slot of the one a window before it is taken.
type publisher struct {
	conn     *conn
	index    int
	qos      uint8
	copies   int32 // subscribers of each message
	frame    publishFrame
	slots    []slot
	sent     uint64 // messages; also the next sequence
	inflight int    // slots not free
	dirty    bool   // is in messagesRun.dirty
}

func (p *publisher) init(index int, w Messages, v Version, topicName string, copies int) {
	p.index, p.qos, p.copies = index, uint8(w.QoS), int32(copies)
	p.frame = newPublishFrame(v, topicName, p.qos, false, w.Payload)
	p.slots = make([]slot, w.Window)
}

// narrow keeps the window within what the broker takes at once; only before anything is sent.
func (p *publisher) narrow(receiveMaximum int) {
	p.slots = p.slots[:min(len(p.slots), receiveMaximum)]
}

// sequenceOf is the sequence number of which the stamp has the low bits; false: none was sent.
func (p *publisher) sequenceOf(s stamp) (uint64, bool) {
	ago := uint64(uint32(p.sent) - s.sequence)
	return p.sent - ago, ago > 0 && ago <= p.sent
}

func (p *publisher) at(sequence uint64) *slot { return &p.slots[sequence%uint64(len(p.slots))] }

// free tells whether the next message may be sent.
func (p *publisher) free() bool { return p.at(p.sent).handshake == slotFree }

// publish appends the next message to the connection's output.
func (p *publisher) publish(s stamp, now int64) {
	i := p.sent % uint64(len(p.slots))
	state := slotSent
	if p.qos == 0 {
		state = slotAcked
	}
	p.slots[i] = slot{sequence: p.sent, at: now, awaited: p.copies, handshake: state}
	p.conn.out = p.frame.append(p.conn.out, uint16(i+1), s)
	p.sent++
	p.inflight++
}

// delivered notes that one more subscriber has the message; true: its slot is free.
func (p *publisher) delivered(sequence uint64) bool {
	s := p.at(sequence)
	if s.sequence != sequence || s.awaited == 0 {
		return false
	}
	s.awaited--
	return p.settle(s)
}

// writeOff gives up on what was sent before limit, is acknowledged, and did not come; true: a place is free.
func (p *publisher) writeOff(limit int64) (freed bool) {
	for i := range p.slots {
		s := &p.slots[i]
		if s.handshake == slotAcked && s.at < limit {
			s.awaited = 0
			freed = p.settle(s) || freed
		}
	}
	return freed
}

// acknowledge takes a PUBACK, PUBREC or PUBCOMP and appends the PUBREL a PUBREC asks for.
func (p *publisher) acknowledge(first byte, packetID uint16) error {
	if packetID == 0 || int(packetID) > len(p.slots) {
		return fmt.Errorf("load: packet 0x%02x for packet identifier %d, which was not used", first, packetID)
	}
	s := &p.slots[packetID-1]
	switch {
	case first == pubackPacket && p.qos == 1 && s.handshake == slotSent,
		first == pubcompPacket && p.qos == 2 && s.handshake == slotReleased:
		s.handshake = slotAcked
		p.settle(s)
	case first == pubrecPacket && p.qos == 2 && s.handshake == slotSent:
		s.handshake = slotReleased
		p.conn.out = appendAck(p.conn.out, pubrelPacket, packetID)
	default:
		return fmt.Errorf("load: packet 0x%02x for packet identifier %d was not expected", first, packetID)
	}
	return nil
}

// settle frees the slot once it is both acknowledged and received by all.
func (p *publisher) settle(s *slot) bool {
	if s.awaited > 0 || s.handshake != slotAcked {
		return false
	}
	s.handshake = slotFree
	p.inflight--
	return true
}
