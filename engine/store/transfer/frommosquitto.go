package transfer

import (
	"cmp"
	"context"
	"io"
	"slices"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/codec/topic"
	"github.com/wheelmq/wheelmq/engine/store"
)

// A key orders messages in all queues: by the identifier that Mosquitto gave
// them, which is the order of their arrival. Where a client's queue has another
// order (a retained message that it got when it subscribed) the message is one
// of its own, right behind the one before it.
type key struct {
	message uint64
	behind  uint64 // 0: shared by all queues
	client  int
}

func (k key) compare(o key) int {
	return cmp.Or(cmp.Compare(k.message, o.message), cmp.Compare(k.behind, o.behind), cmp.Compare(k.client, o.client))
}

// A queueEntry is a delivery with its place.
type queueEntry struct {
	key
	of *mosquittoMessage
	store.Delivery
}

// A mosquittoImport makes sessions of a file.
type mosquittoImport struct {
	file    *mosquittoFile
	queues  [][]queueEntry // of clients, in the order of the file
	keys    []key
	arrived []*mosquittoMessage // QoS 2, not released by their publisher
	counts  Counts
}

// ImportMosquitto reads a mosquitto.db into s, which must be empty. left says
// what was left out, and why.
//
// A QoS 2 message whose PUBREL has not come is delivered by Mosquitto when it
// comes, by us before: it is put into the queues of those who subscribe to it.
// Mosquitto keeps no shared subscriptions (2.0.11): their members have them no
// more.
func ImportMosquitto(ctx context.Context, s store.Store, r io.Reader) (counts Counts, left []string, err error) {
	f, err := readMosquitto(r)
	if err != nil {
		return Counts{}, nil, err
	}
	im := &mosquittoImport{file: f}
	for i, name := range f.order {
		im.queues = append(im.queues, im.queue(i, f.clients[name]))
	}
	im.deliverArrived()
	to, err := newTarget(ctx, s)
	if err != nil {
		return Counts{}, nil, err
	}
	if err := im.write(to, s.First()); err != nil {
		return Counts{}, nil, err
	}
	return im.counts, f.left, to.finish()
}

// queue is what is on its way to client i.
func (im *mosquittoImport) queue(i int, k *mosquittoClient) (q []queueEntry) {
	f := im.file
	for _, inFlight := range []bool{true, false} { // those in flight were sent before
		for _, d := range k.deliveries {
			if d.incoming || d.qos == 0 || (d.state != mosquittoQueued) != inFlight {
				continue
			}
			m := f.messages[d.message]
			if m == nil || !topic.ValidName(m.Topic) {
				f.leave("a message for %q: %v", k.ClientID, errMissing)
				continue
			}
			e := queueEntry{of: m, Delivery: store.Delivery{QoS: d.qos, Retain: d.retain}}
			if d.id != 0 {
				e.IDs = []uint32{d.id}
			}
			switch d.state {
			case mosquittoQueued:
			case mosquittoSendQoS1, mosquittoAwaitPuback:
				e.State = store.AwaitPuback
			case mosquittoSendQoS2, mosquittoAwaitPubrec:
				e.State = store.AwaitPubrec
			case mosquittoSendPubrel, mosquittoAwaitPubcomp:
				e.State = store.AwaitPubcomp
			default:
				f.leave("a message for %q in state %d of Mosquitto", k.ClientID, d.state)
				continue
			}
			if e.State != store.Queued {
				if e.PacketID = d.packet; d.packet == 0 {
					f.leave("a message for %q in flight without a packet identifier", k.ClientID)
					continue
				}
			}
			q = im.append(q, i, e)
		}
	}
	for _, d := range k.deliveries {
		if d.incoming && d.qos == 2 && (d.state == mosquittoAwaitPubrel || d.state == mosquittoSendPubrec) {
			if m := f.messages[d.message]; m != nil && topic.ValidName(m.Topic) {
				im.arrived = append(im.arrived, m)
			} else {
				f.leave("a message from %q: %v", k.ClientID, errMissing)
			}
		}
	}
	return q
}

// append puts an entry behind the others of client i.
func (im *mosquittoImport) append(q []queueEntry, i int, e queueEntry) []queueEntry {
	e.key, e.Size = key{message: e.of.id}, size(&e.of.Message)
	if n := len(q); n > 0 && q[n-1].compare(e.key) >= 0 {
		e.key = q[n-1].key
		e.behind, e.client = e.behind+1, i
	}
	im.keys = append(im.keys, e.key)
	return append(q, e)
}

// deliverArrived queues messages that their publishers have not released.
func (im *mosquittoImport) deliverArrived() {
	f := im.file
	slices.SortStableFunc(im.arrived, func(a, b *mosquittoMessage) int { return cmp.Compare(a.id, b.id) })
	for _, m := range im.arrived {
		if m.Retained {
			f.retained = append(f.retained, m.id)
		}
		served := map[string]bool{} // shared subscriptions: the first member has it
		for i, name := range f.order {
			e := queueEntry{of: m}
			for _, s := range f.clients[name].subscriptions {
				share, filter, shared, ok := topic.ParseShared(s.Filter)
				group := share + "/" + filter
				if !ok || !topic.Match(filter, m.Topic) || shared && served[group] || s.Options&4 != 0 && m.Publisher == name {
					continue
				}
				if shared {
					served[group], e.Shared = true, true
				}
				e.QoS = max(e.QoS, min(m.QoS, codec.QoS(s.Options&3)))
				e.Retain = e.Retain || m.Retained && s.Options&8 != 0
				if s.Identifier != 0 {
					e.IDs = append(e.IDs, s.Identifier)
				}
			}
			if e.QoS > 0 {
				im.queues[i] = im.append(im.queues[i], i, e)
			}
		}
	}
}

// write puts everything into a store whose identifiers begin with first.
func (im *mosquittoImport) write(to *target, first uint64) error {
	f := im.file
	slices.SortFunc(im.keys, key.compare)
	im.keys = slices.Compact(im.keys)
	at := func(k key) uint64 {
		i, _ := slices.BinarySearchFunc(im.keys, k, key.compare)
		return first + uint64(i)
	}
	written := map[uint64]bool{}
	for i, name := range f.order {
		k := f.clients[name]
		id := store.SessionID(first + uint64(len(im.keys)) + uint64(i))
		to.b.PutSession(id, &k.Session)
		im.counts.Sessions++
		for j := range k.subscriptions {
			s := &k.subscriptions[j]
			if _, rest, _, ok := topic.ParseShared(s.Filter); !ok || !topic.ValidFilter(rest) {
				f.leave("a subscription of %q to %q, which is no filter", name, s.Filter)
				continue
			}
			to.b.PutSubscription(id, s)
			im.counts.Subscriptions++
		}
		for _, d := range k.deliveries {
			if d.incoming && d.qos == 2 && d.packet != 0 {
				to.b.Receive(id, d.packet)
			}
		}
		for j := range im.queues[i] {
			e := &im.queues[i][j]
			n := at(e.key)
			if e.State != store.AwaitPubcomp {
				e.Message = store.MessageID(n)
				if !written[n] {
					written[n] = true
					to.b.PutMessage(e.Message, &e.of.Message)
				}
			}
			to.b.Deliver(id, store.Position(n), &e.Delivery)
			if e.State == store.Queued {
				im.counts.Queued++
			} else {
				im.counts.InFlight++
			}
			if err := to.step(); err != nil {
				return err
			}
		}
		if err := to.step(); err != nil {
			return err
		}
	}
	return im.writeRetained(to)
}

func (im *mosquittoImport) writeRetained(to *target) error {
	seen := map[string]bool{}
	for _, id := range im.file.retained {
		m := im.file.messages[id]
		if m == nil || !topic.ValidName(m.Topic) {
			im.file.leave("a retained message: %v", errMissing)
			continue
		}
		if len(m.Payload) == 0 {
			to.b.DeleteRetained(m.Topic)
			continue
		}
		to.b.PutRetained(&m.Message)
		if !seen[string(m.Topic)] {
			seen[string(m.Topic)] = true
			im.counts.Retained++
		}
		if err := to.step(); err != nil {
			return err
		}
	}
	return nil
}
