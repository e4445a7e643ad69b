package transfer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/store"
)

// A mosquitto.db is a header and chunks, each with its kind and length. Lengths
// and counts are big-endian; identifiers of messages and times, which are
// seconds, as the processor of the machine has them: little-endian here.
const (
	mosquittoMagic = "\x00\xB5\x00mosquitto db"

	chunkConfig   = 1
	chunkMessage  = 2
	chunkDelivery = 3
	chunkRetained = 4
	chunkFilter   = 5
	chunkClient   = 6
)

// States of a message in Mosquitto.
const (
	mosquittoSendQoS1     = 2
	mosquittoAwaitPuback  = 3
	mosquittoSendQoS2     = 4
	mosquittoAwaitPubrec  = 5
	mosquittoSendPubrel   = 6
	mosquittoAwaitPubrel  = 7
	mosquittoAwaitPubcomp = 9
	mosquittoSendPubrec   = 10
	mosquittoQueued       = 11
)

// neverExpires is the Session Expiry Interval of sessions without end.
const neverExpires = 0xFFFFFFFF

type mosquittoMessage struct {
	id uint64
	store.Message
}

type mosquittoDelivery struct {
	message  uint64
	packet   uint16
	qos      codec.QoS
	state    byte
	retain   bool
	incoming bool
	id       uint32 // Subscription Identifier; 0 none
}

type mosquittoClient struct {
	store.Session
	subscriptions []store.Subscription
	deliveries    []mosquittoDelivery // in their order
}

// A mosquittoFile is what is in a mosquitto.db.
type mosquittoFile struct {
	version  uint32
	messages map[uint64]*mosquittoMessage
	clients  map[string]*mosquittoClient
	order    []string // of clients
	retained []uint64
	left     []string // what is left out, and why
}

func (f *mosquittoFile) leave(format string, args ...any) {
	f.left = append(f.left, fmt.Sprintf(format, args...))
}

// readMosquitto reads a whole file.
func readMosquitto(r io.Reader) (*mosquittoFile, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	rest, ok := bytes.CutPrefix(b, []byte(mosquittoMagic))
	if !ok || len(rest) < 8 {
		return nil, wrong("it does not begin as a mosquitto.db")
	}
	f := &mosquittoFile{version: binary.BigEndian.Uint32(rest[4:]), messages: map[uint64]*mosquittoMessage{}, clients: map[string]*mosquittoClient{}}
	if f.version != 5 && f.version != 6 {
		return nil, wrong("version %d of mosquitto.db: want 5 or 6; Mosquitto 2 reads older ones and writes 6, when it is started and stopped with it", f.version)
	}
	rest = rest[8:]
	for len(rest) > 0 {
		at := len(b) - len(rest)
		if len(rest) < 8 {
			return nil, wrong("it is cut off at byte %d", at)
		}
		kind, length := binary.BigEndian.Uint32(rest), binary.BigEndian.Uint32(rest[4:])
		if uint64(length) > uint64(len(rest)-8) {
			return nil, wrong("it is cut off in the chunk at byte %d", at)
		}
		c := &chunk{b: rest[8 : 8+length]}
		f.read(kind, c)
		if c.short {
			return nil, wrong("the chunk at byte %d, of kind %d, is shorter than what is in it", at, kind)
		}
		rest = rest[8+length:]
	}
	return f, nil
}

// A chunk's fields; after one that is missing all are zero.
type chunk struct {
	b     []byte
	short bool
}

func (c *chunk) take(n int) []byte {
	if n > len(c.b) {
		c.b, c.short = nil, true
		return make([]byte, min(n, 8))
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

func (c *chunk) byte() byte     { return c.take(1)[0] }
func (c *chunk) uint16() uint16 { return binary.BigEndian.Uint16(c.take(2)) }
func (c *chunk) uint32() uint32 { return binary.BigEndian.Uint32(c.take(4)) }
func (c *chunk) native() uint64 { return binary.LittleEndian.Uint64(c.take(8)) }

func (f *mosquittoFile) read(kind uint32, c *chunk) {
	switch kind {
	case chunkConfig: // the last identifier, and whether it was a clean end
	case chunkMessage:
		f.readMessage(c)
	case chunkDelivery:
		f.readDelivery(c)
	case chunkRetained:
		f.retained = append(f.retained, c.native())
	case chunkFilter:
		f.readFilter(c)
	case chunkClient:
		f.readClient(c)
	default:
		f.leave("a chunk of kind %d", kind)
	}
}

func (f *mosquittoFile) readMessage(c *chunk) {
	m := &mosquittoMessage{id: c.native()}
	if expires := int64(c.native()); expires > 0 {
		m.Expires = seconds(expires)
	}
	payload := c.uint32()
	c.uint16() // packet identifier of the publisher's
	publisher, user, topicName := c.uint16(), c.uint16(), c.uint16()
	c.uint16() // port of the listener
	m.QoS, m.Retained = codec.QoS(c.byte()&3), c.byte() != 0
	m.Publisher = string(c.take(int(publisher)))
	c.take(int(user))
	m.Topic = c.take(int(topicName))
	m.Payload = c.take(int(payload))
	if c.short {
		return
	}
	m.Properties = forwarded(wireProperties(c.b))
	f.messages[m.id] = m
}

// seconds are Unix nanoseconds; none where they do not fit.
func seconds(s int64) int64 {
	if s > 1<<33 {
		return 0
	}
	return s * 1e9
}

// wireProperties takes the Property Length off.
func wireProperties(b []byte) codec.Properties {
	n, size := binary.Uvarint(b)
	if size <= 0 || n != uint64(len(b)-size) {
		return nil
	}
	return codec.Properties(b[size:])
}

// forwarded are the properties of a PUBLISH that go on to subscribers as they
// are (MQTT 5.0 section 3.3.2.3).
func forwarded(all codec.Properties) (p codec.Properties) {
	for x := range all.All() {
		switch x.ID {
		case codec.PayloadFormatIndicator:
			p = codec.AppendUint(p, x.ID, x.Uint)
		case codec.ContentType, codec.ResponseTopic, codec.CorrelationData:
			p = codec.AppendBytes(p, x.ID, x.Bytes)
		case codec.UserProperty:
			p = codec.AppendUserProperty(p, string(x.Bytes), string(x.Value))
		}
	}
	return p
}

func (f *mosquittoFile) readClient(c *chunk) {
	ends, expiry := int64(c.native()), c.uint32()
	c.uint16() // the packet identifier used last
	name, user := int(c.uint16()), 0
	if f.version == 6 {
		c.uint16() // port of the listener
		user = int(c.uint16())
		c.uint32() // gap
	}
	clientID, userName := string(c.take(name)), string(c.take(user))
	switch {
	case c.short:
	case clientID == "" || f.clients[clientID] != nil:
		f.leave("a second client %q", clientID)
	case expiry == 0:
		f.leave("the session of %q, which ended with its connection", clientID)
	default:
		k := &mosquittoClient{Session: store.Session{ClientID: clientID, UserName: userName, Expiry: expiry}}
		if ends > 0 && expiry != neverExpires {
			k.EndsAt = seconds(ends)
		}
		f.clients[clientID] = k
		f.order = append(f.order, clientID)
	}
}

func (f *mosquittoFile) readFilter(c *chunk) {
	s := store.Subscription{Identifier: c.uint32()}
	client, filter := c.uint16(), c.uint16()
	qos, options := c.byte(), c.byte()
	c.uint16() // gap
	clientID := c.take(int(client))
	s.Filter, s.Options = string(c.take(int(filter))), qos&3|options&0x3C
	if k := f.clients[string(clientID)]; k != nil && !c.short {
		k.subscriptions = append(k.subscriptions, s)
	}
}

func (f *mosquittoFile) readDelivery(c *chunk) {
	d := mosquittoDelivery{message: c.native(), packet: c.uint16()}
	client := c.uint16()
	d.qos, d.state = codec.QoS(c.byte()&3), c.byte()
	d.retain, d.incoming = c.byte()>>4 != 0, c.byte() == 0
	clientID := c.take(int(client))
	if v, ok := wireProperties(c.b).Uint(codec.SubscriptionIdentifier); ok {
		d.id = v
	}
	if k := f.clients[string(clientID)]; k != nil && !c.short {
		k.deliveries = append(k.deliveries, d)
	}
}

var errMissing = errors.New("its message is missing")
