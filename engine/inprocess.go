package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
	"github.com/wheelmq/wheelmq/engine/hook"
	"github.com/wheelmq/wheelmq/engine/message"
	"github.com/wheelmq/wheelmq/engine/store"
)

// A Message is an application message of the program that embeds the broker
// (MQTT 5.0 section 3.3).
type Message struct {
	Topic      string
	Payload    []byte
	QoS        codec.QoS
	Retain     bool
	Expiry     time.Duration    // Message Expiry Interval, rounded up to seconds; 0: none
	Properties codec.Properties // encoded by codec.AppendUint, AppendBytes and AppendUserProperty
	From       string           // client identifier of the publisher, as hooks see it; "" for the program itself
}

// Errors of Publish and Post.
var (
	ErrBusy   = errors.New("engine: a loop is too far behind to take another message")
	ErrClosed = errors.New("engine: the broker does not run")
)

func (m *Message) validate(o *Options) error {
	switch {
	case m.Topic == "" || len(m.Topic) > codec.MaxFieldLength || !topic.ValidName(m.Topic):
		return fmt.Errorf("engine: %q is not a topic name", m.Topic)
	case m.QoS > 2:
		return fmt.Errorf("engine: QoS %d: want 0, 1 or 2", m.QoS)
	case len(m.Topic)+len(m.Payload)+len(m.Properties) > o.MaximumPacketSize:
		return fmt.Errorf("engine: message of %d bytes to %q: want up to %d (MaximumPacketSize)",
			len(m.Topic)+len(m.Payload)+len(m.Properties), m.Topic, o.MaximumPacketSize)
	case m.Retain && o.NoRetained:
		return errors.New("engine: retained messages are switched off")
	default:
		return nil
	}
}

// Publish publishes m as if a client had sent it, and says what that client
// would have been answered: Success, NoMatchingSubscribers, or why it was
// refused; where the message must survive, once it is in the store. It passes
// the hook.PublishInterceptors, but no Authorizer. Messages
// that one goroutine publishes to one topic arrive in that order. m's slices
// may be used again when Publish returns without error.
//
// Any goroutine but a loop's: a hook that runs on a loop uses Post.
func (b *Broker) Publish(ctx context.Context, m Message) (codec.ReasonCode, error) {
	answer := make(chan codec.ReasonCode, 1)
	if err := b.publishOn(&m, func(code codec.ReasonCode) { answer <- code }); err != nil {
		return 0, err
	}
	select {
	case code := <-answer:
		return code, nil
	case <-b.stopped:
		return 0, ErrClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Post publishes m like Publish and does not wait. It copies m. Any goroutine,
// also from inside a hook.
func (b *Broker) Post(m Message) error {
	m.Payload, m.Properties = bytes.Clone(m.Payload), bytes.Clone(m.Properties)
	return b.publishOn(&m, nil)
}

// publishOn hands m to a loop, always the same for a topic.
func (b *Broker) publishOn(m *Message, answer func(codec.ReasonCode)) error {
	if err := m.validate(b.options()); err != nil {
		return err
	}
	if b.isStopped() {
		return ErrClosed
	}
	l := b.loops[xxhash.Sum64String(m.Topic)%uint64(len(b.loops))]
	size := callBytes + len(m.Topic) + len(m.Payload) + len(m.Properties)
	if l.mailbox.waiting()+size > b.options().MailboxBytes {
		return ErrBusy
	}
	own := *m
	l.mailbox.post([]item{{kind: itemCall, call: func(l *loop) {
		before := l.pending()
		code := l.publishOwn(&own)
		switch {
		case answer == nil:
		case l.pending() == before:
			answer(code)
		default:
			l.answerCommitted(store.Synced, func(err error) {
				if err != nil {
					code = codec.QuotaExceeded
				}
				answer(code)
			})
		}
	}}}, size)
	return nil
}

func (b *Broker) isStopped() bool {
	select {
	case <-b.stopped:
		return true
	default:
		return false
	}
}

// loadRetained asks the sources for retained messages, before the loops run.
func (b *Broker) loadRetained() error {
	now := b.clock.Now()
	s := &b.retained
	load := func(p hook.Publication) error {
		m := Message{Topic: string(p.Topic), Payload: p.Payload, QoS: p.QoS, Retain: true, Properties: p.Properties}
		if err := m.validate(b.options()); err != nil {
			return err
		}
		if len(p.Payload) == 0 || isSys(p.Topic) {
			return fmt.Errorf("engine: the message of %q cannot be retained: it has no payload, or is below $SYS", p.Topic)
		}
		kept := message.NewLasting(p.Topic, p.Payload, p.Properties)
		kept.QoS, kept.Retained, kept.Publisher = p.QoS, true, p.From
		if p.HasExpiry {
			kept.Expires = now.Add(time.Duration(p.Expiry) * time.Second)
		}
		if _, ok := s.fits(m.Topic, kept, b.options()); !ok {
			return fmt.Errorf("engine: no room to retain the message of %q (MaxRetainedMessages, MaxRetainedBytes, and those of one client)", p.Topic)
		}
		s.count(kept, 1)
		if old, had := s.index.Set(m.Topic, kept); had {
			s.count(old, -1)
		}
		return nil
	}
	for _, h := range b.hooks.current.Load().sources {
		if err := h.LoadRetained(context.Background(), load); err != nil {
			return fmt.Errorf("engine: retained messages cannot be loaded: %w", err)
		}
	}
	return nil
}

// publishOwn publishes a message of the program.
func (l *loop) publishOwn(m *Message) codec.ReasonCode {
	p := publication{topic: []byte(m.Topic), payload: m.Payload, properties: m.Properties, qos: m.QoS, retain: m.Retain, from: m.From}
	if m.Expiry > 0 {
		p.expires = l.now.Add((m.Expiry + time.Second - 1).Truncate(time.Second))
	}
	who := hook.Client{ClientID: m.From}
	if l.asks&onPublish != 0 {
		if out := l.interceptPublish(who, nil, &p); out.Ends() {
			l.drop(hook.DropIntercepted, nil, p.topic)
			return out.Code
		}
	}
	code := l.publish(&p)
	if l.asks&onPublished != 0 && !code.Failure() {
		l.tellPublished(who, nil, &p, code)
	}
	l.done(&p)
	return code
}
