package transfer

import (
	"bufio"
	"context"
	"encoding/json"
	"io"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/store"
)

// exportVersion is of the lines; package comment.
const exportVersion = 1

// A line has one of these.
type line struct {
	Header   *header   `json:"wheelmq_export,omitempty"`
	Message  *message  `json:"message,omitempty"`
	Session  *session  `json:"session,omitempty"`
	Queued   *delivery `json:"queued,omitempty"`
	Retained *message  `json:"retained,omitempty"`
	End      *Counts   `json:"end,omitempty"`
}

type header struct {
	Version int `json:"version"`
}

type message struct {
	ID         store.MessageID `json:"id,omitempty"`
	Topic      string          `json:"topic"`
	Payload    []byte          `json:"payload,omitempty"`
	QoS        codec.QoS       `json:"qos,omitempty"`
	Retain     bool            `json:"retain,omitempty"`
	Expires    int64           `json:"expires,omitempty"`
	Publisher  string          `json:"publisher,omitempty"`
	Properties []byte          `json:"properties,omitempty"`
}

type will struct {
	Message   message `json:"message"`
	Delay     uint32  `json:"delay,omitempty"`
	Expiry    uint32  `json:"expiry,omitempty"`
	HasExpiry bool    `json:"has_expiry,omitempty"`
	At        int64   `json:"at,omitempty"`
}

type subscription struct {
	Filter     string `json:"filter"`
	Options    byte   `json:"options,omitempty"`
	Identifier uint32 `json:"identifier,omitempty"`
}

type session struct {
	ID            store.SessionID `json:"id"`
	ClientID      string          `json:"client_id"`
	UserName      string          `json:"user_name,omitempty"`
	Expiry        uint32          `json:"expiry,omitempty"`
	EndsAt        int64           `json:"ends_at,omitempty"`
	Will          *will           `json:"will,omitempty"`
	Subscriptions []subscription  `json:"subscriptions,omitempty"`
	Received      []uint16        `json:"received,omitempty"`
	InFlight      []delivery      `json:"in_flight,omitempty"`
}

type delivery struct {
	Session  store.SessionID `json:"session,omitempty"` // of what is queued
	Position store.Position  `json:"position"`
	Message  store.MessageID `json:"message,omitempty"`
	QoS      codec.QoS       `json:"qos"`
	Retain   bool            `json:"retain,omitempty"`
	Shared   bool            `json:"shared,omitempty"`
	State    store.State     `json:"state,omitempty"`
	PacketID uint16          `json:"packet_id,omitempty"`
	IDs      []uint32        `json:"ids,omitempty"`
}

func messageLine(id store.MessageID, m *store.Message) *message {
	return &message{ID: id, Topic: string(m.Topic), Payload: m.Payload, QoS: m.QoS, Retain: m.Retained, Expires: m.Expires,
		Publisher: m.Publisher, Properties: m.Properties}
}

func deliveryLine(at store.Position, d *store.Delivery) delivery {
	return delivery{Position: at, Message: d.Message, QoS: d.QoS, Retain: d.Retain, Shared: d.Shared, State: d.State,
		PacketID: d.PacketID, IDs: d.IDs}
}

// An exporter writes lines.
type exporter struct {
	to    *json.Encoder
	there map[store.MessageID]struct{} // written
}

// Export writes all that s keeps. damaged is told what is left out, as by Count.
func Export(ctx context.Context, s store.Store, w io.Writer, damaged func(string, error)) (Counts, error) {
	out := bufio.NewWriterSize(w, 1<<16)
	e := &exporter{to: json.NewEncoder(out), there: map[store.MessageID]struct{}{}}
	e.to.SetEscapeHTML(false)
	if err := e.to.Encode(line{Header: &header{exportVersion}}); err != nil {
		return Counts{}, err
	}
	counts, err := walk(ctx, s, visitor{
		session:  e.session,
		queued:   e.queued,
		retained: func(m *store.Message) error { return e.to.Encode(line{Retained: messageLine(0, m)}) },
		damaged:  damaged,
	})
	if err == nil {
		err = e.to.Encode(line{End: &counts})
	}
	if err == nil {
		err = out.Flush()
	}
	return counts, err
}

func (e *exporter) message(id store.MessageID, m *store.Message) error {
	if _, there := e.there[id]; there || id == 0 {
		return nil
	}
	e.there[id] = struct{}{}
	return e.to.Encode(line{Message: messageLine(id, m)})
}

func (e *exporter) session(id store.SessionID, l *store.Loaded) error {
	s := &session{ID: id, ClientID: l.ClientID, UserName: l.UserName, Expiry: l.Expiry, EndsAt: l.EndsAt, Received: l.Received}
	if w := l.Will; w != nil {
		s.Will = &will{*messageLine(0, &w.Message), w.Delay, w.Expiry, w.HasExpiry, w.At}
	}
	for _, x := range l.Subscriptions {
		s.Subscriptions = append(s.Subscriptions, subscription(x))
	}
	for i := range l.InFlight {
		f := &l.InFlight[i]
		if err := e.message(f.Delivery.Message, &f.Message); err != nil {
			return err
		}
		s.InFlight = append(s.InFlight, deliveryLine(f.Position, &f.Delivery))
	}
	return e.to.Encode(line{Session: s})
}

func (e *exporter) queued(id store.SessionID, at store.Position, d *store.Delivery, m *store.Message) error {
	if err := e.message(d.Message, m); err != nil {
		return err
	}
	q := deliveryLine(at, d)
	q.Session = id
	return e.to.Encode(line{Queued: &q})
}
