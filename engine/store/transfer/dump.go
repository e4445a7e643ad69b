package transfer

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/store"
)

// What a dump has in a line. Text is text where all of it can be printed, and
// in base64 under another key otherwise.
type (
	seenSession struct {
		ClientID string       `json:"client_id"`
		UserName string       `json:"user_name,omitempty"`
		Expiry   uint32       `json:"expiry_seconds"`
		EndsAt   string       `json:"ends_at,omitempty"`
		Will     *seenMessage `json:"will,omitempty"`
		WillAt   string       `json:"will_at,omitempty"`
		Received []uint16     `json:"received_qos2,omitempty"`
	}
	seenSubscription struct {
		ClientID          string    `json:"client_id"`
		Filter            string    `json:"filter"`
		QoS               codec.QoS `json:"qos"`
		NoLocal           bool      `json:"no_local,omitempty"`
		RetainAsPublished bool      `json:"retain_as_published,omitempty"`
		Identifier        uint32    `json:"identifier,omitempty"`
	}
	seenMessage struct {
		Topic         string    `json:"topic"`
		Payload       string    `json:"payload,omitempty"`
		PayloadBase64 []byte    `json:"payload_base64,omitempty"`
		QoS           codec.QoS `json:"qos"`
		Expires       string    `json:"expires,omitempty"`
		Publisher     string    `json:"publisher,omitempty"`
	}
	seenDelivery struct {
		ClientID string       `json:"client_id"`
		QoS      codec.QoS    `json:"qos"`
		State    string       `json:"state"`
		PacketID uint16       `json:"packet_id,omitempty"`
		Message  *seenMessage `json:"message,omitempty"`
	}
	seen struct {
		Session      *seenSession      `json:"session,omitempty"`
		Subscription *seenSubscription `json:"subscription,omitempty"`
		Delivery     *seenDelivery     `json:"delivery,omitempty"`
		Retained     *seenMessage      `json:"retained,omitempty"`
	}
)

var stateNames = [...]string{"queued", "await PUBACK", "await PUBREC", "await PUBCOMP"}

func wallTime(unix int64) string {
	if unix == 0 {
		return ""
	}
	return time.Unix(0, unix).UTC().Format(time.RFC3339)
}

func printable(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) && !unicode.IsSpace(r) {
			return false
		}
		b = b[n:]
	}
	return true
}

func seenOf(m *store.Message) *seenMessage {
	s := &seenMessage{Topic: string(m.Topic), QoS: m.QoS, Expires: wallTime(m.Expires), Publisher: m.Publisher}
	if printable(m.Payload) {
		s.Payload = string(m.Payload)
	} else {
		s.PayloadBase64 = m.Payload
	}
	return s
}

// Dump writes all that s keeps for people to read. damaged is told what is left
// out, as by Count.
func Dump(ctx context.Context, s store.Store, w io.Writer, damaged func(string, error)) (Counts, error) {
	out := bufio.NewWriterSize(w, 1<<16)
	to := json.NewEncoder(out)
	to.SetEscapeHTML(false)
	names := map[store.SessionID]string{}
	put := func(name string, d *store.Delivery, m *store.Message) error {
		s := &seenDelivery{ClientID: name, QoS: d.QoS, State: stateNames[d.State], PacketID: d.PacketID}
		if d.Message != 0 {
			s.Message = seenOf(m)
		}
		return to.Encode(seen{Delivery: s})
	}
	counts, err := walk(ctx, s, visitor{
		session: func(id store.SessionID, l *store.Loaded) error {
			names[id] = l.ClientID
			return dumpSession(to, l, put)
		},
		queued: func(id store.SessionID, _ store.Position, d *store.Delivery, m *store.Message) error {
			return put(names[id], d, m)
		},
		retained: func(m *store.Message) error { return to.Encode(seen{Retained: seenOf(m)}) },
		damaged:  damaged,
	})
	if err == nil {
		err = out.Flush()
	}
	return counts, err
}

func dumpSession(to *json.Encoder, l *store.Loaded, put func(string, *store.Delivery, *store.Message) error) error {
	s := &seenSession{ClientID: l.ClientID, UserName: l.UserName, Expiry: l.Expiry, EndsAt: wallTime(l.EndsAt), Received: l.Received}
	if l.Will != nil {
		s.Will, s.WillAt = seenOf(&l.Will.Message), wallTime(l.Will.At)
	}
	if err := to.Encode(seen{Session: s}); err != nil {
		return err
	}
	for _, x := range l.Subscriptions {
		err := to.Encode(seen{Subscription: &seenSubscription{ClientID: l.ClientID, Filter: x.Filter, QoS: codec.QoS(x.Options & 3),
			NoLocal: x.Options&4 != 0, RetainAsPublished: x.Options&8 != 0, Identifier: x.Identifier}})
		if err != nil {
			return err
		}
	}
	for i := range l.InFlight {
		if err := put(l.ClientID, &l.InFlight[i].Delivery, &l.InFlight[i].Message); err != nil {
			return err
		}
	}
	return nil
}
