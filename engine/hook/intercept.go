package hook

import (
	"bytes"
	"context"
	"fmt"

	"github.com/wheelmq/wheelmq/codec"
)

// A Publication is an application message on its way in. An interceptor may
// change every field but From and Will; slices that it puts in must stay as
// they are from then on.
type Publication struct {
	Topic, Payload []byte           // borrowed
	Properties     codec.Properties // borrowed, encoded; without Message Expiry Interval and Topic Alias
	QoS            codec.QoS
	Retain         bool
	HasExpiry      bool
	Expiry         uint32 // Message Expiry Interval in seconds, with HasExpiry
	From           string // client identifier of the publisher; "" for the broker's own
	Will           bool   // a Will Message
}

// An Outcome says what becomes of a publication. The zero value lets it go on.
type Outcome struct {
	Stop   bool             // it is not delivered and not retained
	Code   codec.ReasonCode // with Stop: what the publisher is answered at QoS 1 and 2; Success drops silently, or after the hook answered itself
	Reason string           // Reason String for a failing Code
	Close  bool             // end the publisher's connection, with Code
}

// Ends reports whether the publication does not go on.
func (o Outcome) Ends() bool { return o.Stop || o.Close }

// A PublishInterceptor sees each message from a client, each will as it is
// published and each message of the program itself, after it was found to be
// allowed and before it is routed. Several change it in turn, until one stops
// it. What they make of it must be a valid message: else it is refused with
// 0x83 and logged. On the loop.
type PublishInterceptor interface {
	InterceptPublish(c Client, p *Publication) Outcome
}

// A Subscription is one filter of a SUBSCRIBE, or one that a session has.
type Subscription struct {
	Filter            string // $share/name/ included
	QoS               codec.QoS
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    uint8
	ID                uint32 // Subscription Identifier; 0: none
}

// A SubscribeInterceptor sees each filter of a SUBSCRIBE before it is checked.
// It may change Filter and QoS: the session has the changed subscription. A
// failing code refuses it. On the loop.
type SubscribeInterceptor interface {
	InterceptSubscribe(c Client, s *Subscription) codec.ReasonCode
}

// An UnsubscribeInterceptor sees each filter of an UNSUBSCRIBE and returns the
// one to remove, which has to be mapped as its SUBSCRIBE was. A failing code
// leaves the subscription and is answered. On the loop.
type UnsubscribeInterceptor interface {
	InterceptUnsubscribe(c Client, filter string) (string, codec.ReasonCode)
}

// A Delivery is a message on its way to one client. An interceptor may change
// Topic, Payload and Properties; slices that it puts in must stay as they are
// from then on.
type Delivery struct {
	Topic, Payload []byte           // borrowed
	Properties     codec.Properties // borrowed, encoded; without Message Expiry Interval, Topic Alias and Subscription Identifiers
	QoS            codec.QoS        // of this delivery
	Retain         bool
	From           string // client identifier of the publisher; "" for the broker's own
}

// A DeliveryInterceptor sees each message, live or retained, before it is sent
// to one client or queued for it. false: it is not. On the loop of the
// receiver; it runs for every recipient of every message.
type DeliveryInterceptor interface {
	InterceptDelivery(to Client, d *Delivery) bool
}

// A Packet is one control packet.
type Packet struct {
	Out     bool          // from the broker
	Version codec.Version // of the connection; 0 for CONNECT
	Header  codec.Header
	Raw     []byte // borrowed, whole
}

// Decode returns the packet as *codec.Connect, *codec.Connack, *codec.Publish,
// codec.Ack, *codec.Subscribe, *codec.Suback, *codec.Unsubscribe,
// *codec.Unsuback, *codec.Disconnect or *codec.Auth; nil for PINGREQ and
// PINGRESP. It works on a copy: the result is the caller's.
func (p Packet) Decode() (any, error) {
	body := bytes.Clone(p.Raw[p.Header.Size:])
	side := codec.FromClient
	if p.Out {
		side = codec.FromServer
	}
	switch p.Header.Type {
	case codec.CONNECT:
		v := new(codec.Connect)
		return v, codec.ParseConnect(v, body)
	case codec.CONNACK:
		v, err := codec.ParseConnack(body, p.Version)
		return &v, err
	case codec.PUBLISH:
		v := new(codec.Publish)
		return v, codec.ParsePublish(v, p.Header.Flags, body, p.Version, side)
	case codec.PUBACK, codec.PUBREC, codec.PUBREL, codec.PUBCOMP:
		return codec.ParseAck(p.Header.Type, body, p.Version)
	case codec.SUBSCRIBE:
		v := new(codec.Subscribe)
		return v, codec.ParseSubscribe(v, body, p.Version)
	case codec.SUBACK:
		v := new(codec.Suback)
		return v, codec.ParseSuback(v, body, p.Version)
	case codec.UNSUBSCRIBE:
		v := new(codec.Unsubscribe)
		return v, codec.ParseUnsubscribe(v, body, p.Version)
	case codec.UNSUBACK:
		v := new(codec.Unsuback)
		return v, codec.ParseUnsuback(v, body, p.Version)
	case codec.PINGREQ, codec.PINGRESP:
		return nil, nil
	case codec.DISCONNECT:
		v, err := codec.ParseDisconnect(body, p.Version, side)
		return &v, err
	case codec.AUTH:
		v, err := codec.ParseAuth(body, side)
		return &v, err
	default:
		return nil, fmt.Errorf("hook: packet type %d", p.Header.Type)
	}
}

// A PacketInterceptor sees each packet of each connection, from the client
// before it is handled, from the broker before it is written. false: the packet
// is passed over as if it had not come, or not written. Nothing stands in its
// place, so use it with care. On the loop.
type PacketInterceptor interface {
	InterceptPacket(c Client, p Packet) bool
}

// A PublishReviewer sees each message from a client, and each will as it is
// published, off the loops: for rights and changes that need a database or a
// service. It comes after the PublishInterceptors, which it is like in all
// else. Messages of the program itself are not shown to it.
//
// While it thinks the client's further packets wait: one call at a time for a
// client, in the order in which it sent them, so what takes a millisecond holds
// the client to a thousand messages a second. As many bytes wait as one packet
// may have; a client that sends more is disconnected with 0x97. An error, and
// no answer in time, refuse the message with 0x83. p's slices are the hook's to
// keep, but not to change in place.
type PublishReviewer interface {
	ReviewPublish(ctx context.Context, c Client, p *Publication) (Outcome, error)
}

// A SubscribeReviewer sees each filter of a SUBSCRIBE off the loops, after the
// SubscribeInterceptors, which it is like in all else; what is said of
// [PublishReviewer] about waiting holds for it too.
type SubscribeReviewer interface {
	ReviewSubscribe(ctx context.Context, c Client, s *Subscription) (codec.ReasonCode, error)
}
