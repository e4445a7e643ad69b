package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/enginetest"
	"github.com/wheelmq/wheelmq/engine/store"
)

// A cutStore takes a number of commits, and then nothing, nor answers: the
// process has ended there as far as store and clients can tell.
type cutStore struct {
	store.Store
	mu   sync.Mutex
	left int
	dead chan struct{}
}

func newCutStore(s store.Store, commits int) *cutStore {
	return &cutStore{Store: s, left: commits, dead: make(chan struct{})}
}

func (c *cutStore) Commit(b *store.Batch, done func(*store.Batch, error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == 0 {
		close(c.dead)
	}
	c.left--
	if c.left < 0 {
		return nil
	}
	return c.Store.Commit(b, func(b *store.Batch, err error) {
		select {
		case <-c.dead: // committed, and nobody was told
		default:
			done(b, err)
		}
	})
}

// TestCrashAtEveryCommit ends the broker behind every commit of a conversation:
// a publisher and a subscriber with durable sessions at QoS 1 and 2, who come
// back and go on as the standard says.
func TestCrashAtEveryCommit(t *testing.T) {
	covers(t, "B-durable")
	for _, loops := range []int{1, 2} {
		for k := 0; ; k++ {
			crashed := false
			ok := t.Run(fmt.Sprintf("loops=%d/commit=%d", loops, k), func(t *testing.T) { crashed = crashAt(t, loops, k) })
			if !ok {
				return
			}
			if !crashed {
				break // the conversation has fewer commits
			}
		}
	}
}

const crashMessages = 6

func crashAt(t *testing.T, loops, commits int) (crashed bool) {
	kept := store.NewMemory()
	cut := newCutStore(kept, commits)
	sub, pub := newCrashSubscriber(), &crashPublisher{}
	b := enginetest.Start(t, engine.Options{Loops: loops, Store: cut})
	crashed = conversation(t, b, cut.dead, sub, pub)
	if crashed {
		b = enginetest.Start(t, engine.Options{Loops: loops, Store: kept})
		if conversation(t, b, make(chan struct{}), sub, pub) {
			t.Fatal("the second broker ended too")
		}
	}
	var want []string
	for i := range crashMessages {
		want = append(want, fmt.Sprint(i))
	}
	if got := sub.once(); !slices.Equal(got, want) {
		t.Errorf("delivered %v, want %v", sub.got, want)
	}
	for i := 1; i < crashMessages; i += 2 { // QoS 2
		if n := slices.Index(sub.got, fmt.Sprint(i)); slices.Contains(sub.got[n+1:], fmt.Sprint(i)) {
			t.Errorf("%d came twice at QoS 2: %v", i, sub.got)
		}
	}
	return crashed
}

// conversation goes on until everything is published and delivered, or the
// broker has ended; then the connections are cut.
func conversation(t *testing.T, b *enginetest.Broker, dead chan struct{}, sub *crashSubscriber, pub *crashPublisher) (crashed bool) {
	s, p := b.Dial(t, codec.V311), b.Dial(t, codec.V311)
	sub.subscribed, sub.subscribing = make(chan struct{}), sync.Once{}
	if sub.granted {
		sub.release()
	}
	over, both, watched := make(chan error, 2), make(chan struct{}), make(chan struct{})
	defer func() {
		close(both)
		<-watched
	}()
	go func() {
		defer close(watched)
		select {
		case <-dead:
			s.Conn.Close()
			p.Conn.Close()
			sub.release()
		case <-both:
		}
	}()
	go func() { over <- sub.run(s) }()
	go func() {
		<-sub.subscribed
		over <- pub.run(p)
	}()
	err := <-over
	if err != nil {
		sub.release()
	}
	err = errors.Join(err, <-over)
	select {
	case <-dead:
		return true
	default:
	}
	if err != nil {
		t.Fatal(err)
	}
	return false
}

type crashSubscriber struct {
	subscribed  chan struct{}
	subscribing sync.Once
	granted     bool // SUBACK came
	open        map[uint16]bool
	got         []string
}

func newCrashSubscriber() *crashSubscriber {
	return &crashSubscriber{open: map[uint16]bool{}}
}

func (s *crashSubscriber) release() {
	s.subscribing.Do(func() { close(s.subscribed) })
}

// once is what was delivered, repetitions left out.
func (s *crashSubscriber) once() (all []string) {
	for _, m := range s.got {
		if !slices.Contains(all, m) {
			all = append(all, m)
		}
	}
	return all
}

// login connects to the session that is there, and reports whether it was.
func login(c *enginetest.Client, id string) (present bool, err error) {
	p := codec.Connect{Version: c.Version, ClientID: []byte(id)}
	if _, err := c.Conn.Write(p.Append(nil)); err != nil {
		return false, err
	}
	h, body, err := c.Packet()
	if err != nil || h.Type != codec.CONNACK {
		return false, errors.Join(err, fmt.Errorf("%v in the place of CONNACK", h.Type))
	}
	ack, err := codec.ParseConnack(body, c.Version)
	return ack.SessionPresent, err
}

func (s *crashSubscriber) run(c *enginetest.Client) error {
	present, err := login(c, "subscriber")
	if err != nil {
		return err
	}
	if s.granted && !present {
		return errors.New("the session is lost with its subscription")
	}
	if !s.granted {
		sub := codec.Subscribe{PacketID: 1, Filters: []codec.Subscription{{Filter: []byte("t"), QoS: 2}}}
		if _, err := c.Conn.Write(sub.Append(nil, c.Version)); err != nil {
			return err
		}
	}
	for len(s.once()) < crashMessages || len(s.open) > 0 {
		h, body, err := c.Packet()
		if err != nil {
			return err
		}
		if err := s.packet(c, h, body); err != nil {
			return err
		}
	}
	return nil
}

func (s *crashSubscriber) packet(c *enginetest.Client, h codec.Header, body []byte) error {
	switch h.Type {
	case codec.SUBACK:
		s.granted = true
		s.release()
	case codec.PUBLISH:
		var p codec.Publish
		if err := codec.ParsePublish(&p, h.Flags, body, c.Version, codec.FromServer); err != nil {
			return err
		}
		ack := codec.PUBACK
		if p.QoS == 2 {
			ack = codec.PUBREC
		}
		if !s.open[p.PacketID] {
			s.got = append(s.got, string(p.Payload))
		}
		if p.QoS == 2 {
			s.open[p.PacketID] = true
		}
		_, err := c.Conn.Write(codec.AppendAck(nil, c.Version, ack, p.PacketID, codec.Success, nil))
		return err
	case codec.PUBREL:
		a, err := codec.ParseAck(h.Type, body, c.Version)
		if err != nil {
			return err
		}
		delete(s.open, a.PacketID)
		_, err = c.Conn.Write(codec.AppendAck(nil, c.Version, codec.PUBCOMP, a.PacketID, codec.Success, nil))
		return err
	default:
		return fmt.Errorf("unexpected %v", h.Type)
	}
	return nil
}

// crashPublisher publishes one message after the other, at QoS 1 and 2 in turn.
type crashPublisher struct {
	next     int
	begun    bool // the PUBLISH of next went out
	received bool // its PUBREC came
}

func (p *crashPublisher) run(c *enginetest.Client) error {
	present, err := login(c, "publisher")
	if err != nil {
		return err
	}
	if p.begun && !present {
		return errors.New("the publisher's session is lost")
	}
	for p.next < crashMessages {
		if err := p.publish(c); err != nil {
			return err
		}
		p.next, p.begun, p.received = p.next+1, false, false
	}
	return nil
}

func (p *crashPublisher) publish(c *enginetest.Client) error {
	id, qos := uint16(p.next+1), codec.QoS(1+p.next%2)
	if !p.received {
		d := codec.Delivery{PacketID: id, QoS: qos, Dup: p.begun}
		p.begun = true
		if _, err := c.Conn.Write(codec.AppendPublish(nil, c.Version, &d, []byte("t"), fmt.Append(nil, p.next), nil)); err != nil {
			return err
		}
		ack := codec.PUBACK
		if qos == 2 {
			ack = codec.PUBREC
		}
		if err := await(c, ack); err != nil || qos == 1 {
			return err
		}
		p.received = true
	}
	if _, err := c.Conn.Write(codec.AppendAck(nil, c.Version, codec.PUBREL, id, codec.Success, nil)); err != nil {
		return err
	}
	return await(c, codec.PUBCOMP)
}

func await(c *enginetest.Client, want codec.PacketType) error {
	h, _, err := c.Packet()
	if err == nil && h.Type != want {
		err = fmt.Errorf("%v in the place of %v", h.Type, want)
	}
	return err
}

// TestKept: what an absent client waits for, retained messages and an armed
// will are there in the next broker; what was undone stays undone.
func TestKept(t *testing.T) {
	covers(t, "B-will-restart")
	kept := store.NewMemory()
	b := start(t, kept)
	s := b.Connect(t, "s", codec.V5, enginetest.Resume(1000))
	s.Subscribe("t/#", 2)
	s.Subscribe("gone", 1)
	u := codec.Unsubscribe{PacketID: 99, Filters: [][]byte{[]byte("gone")}}
	s.Send(u.Append(nil, codec.V5))
	if h, _, err := s.Packet(); err != nil || h.Type != codec.UNSUBACK {
		t.Fatal(h.Type, err)
	}
	s.Disconnect()
	w := b.Connect(t, "w", codec.V5, enginetest.Resume(1000), enginetest.Will("t/will", "died", 1))
	w.Ping()
	p := b.Connect(t, "p", codec.V311)
	for i := range 20 {
		if code := p.Publish(fmt.Sprint("t/", i%3), fmt.Sprint(i), codec.QoS(1+i%2)); code.Failure() {
			t.Fatal(code)
		}
	}
	p.Publish("r/kept", "one", 1, enginetest.Retain)
	p.Publish("r/cleared", "two", 1, enginetest.Retain)
	p.Publish("r/cleared", "", 1, enginetest.Retain)
	p.Publish("gone", "x", 1)
	snapshot := freeze(t, kept)
	b = start(t, snapshot)
	r := b.Connect(t, "r", codec.V311)
	r.Subscribe("r/#", 1)
	r.ExpectPublish("r/kept", "one")
	r.ExpectNothing()
	p = b.Connect(t, "p2", codec.V311)
	p.Publish("t/0", "new", 1)
	s = b.Connect(t, "s", codec.V5, enginetest.Resume(1000))
	var got []string
	for len(got) < 22 {
		h, body, err := s.Packet()
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		if h.Type != codec.PUBLISH {
			continue
		}
		var in codec.Publish
		if err := codec.ParsePublish(&in, h.Flags, body, codec.V5, codec.FromServer); err != nil {
			t.Fatal(err)
		}
		got = append(got, string(in.Payload))
		if in.QoS == 2 {
			s.Ack(codec.PUBREC, in.PacketID)
		} else {
			s.Ack(codec.PUBACK, in.PacketID)
		}
	}
	all := strings.Join(got, " ")
	if !strings.HasPrefix(all, "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 ") || !slices.Contains(got, "died") || got[20] != "new" && got[21] != "new" {
		t.Errorf("got %v", got)
	}
}

func start(t *testing.T, s store.Store) *enginetest.Broker {
	t.Helper()
	return enginetest.Start(t, engine.Options{Loops: 2, Store: s})
}

// freeze copies what s holds at this moment.
func freeze(t *testing.T, s *store.Memory) store.Store {
	t.Helper()
	n := store.NewMemory()
	c := &copier{b: &store.Batch{}}
	if err := s.Load(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	for _, id := range c.ids {
		if err := s.ReadQueue(id, 0, func(at store.Position, d *store.Delivery, m *store.Message) bool {
			c.b.PutMessage(d.Message, m)
			c.b.Deliver(id, at, d)
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Commit(c.b, func(*store.Batch, error) {}); err != nil {
		t.Fatal(err)
	}
	return n
}

type copier struct {
	b   *store.Batch
	ids []store.SessionID
}

func (c *copier) Session(id store.SessionID, s *store.Loaded) {
	c.ids = append(c.ids, id)
	c.b.PutSession(id, &s.Session)
	for i := range s.Subscriptions {
		c.b.PutSubscription(id, &s.Subscriptions[i])
	}
	for _, packet := range s.Received {
		c.b.Receive(id, packet)
	}
	for i := range s.InFlight {
		f := &s.InFlight[i]
		if f.Delivery.Message == 0 { // its Deliver had one
			c.b.PutMessage(store.MessageID(f.Position), &f.Message)
			c.b.Deliver(id, f.Position, &store.Delivery{Message: store.MessageID(f.Position), QoS: f.Delivery.QoS})
			c.b.Advance(id, f.Position, &f.Delivery, store.MessageID(f.Position))
			continue
		}
		c.b.PutMessage(f.Delivery.Message, &f.Message)
		c.b.Deliver(id, f.Position, &f.Delivery)
	}
}
func (c *copier) Queue(store.SessionID, store.Extent) {}
func (c *copier) Retained(m *store.Message)           { c.b.PutRetained(m) }
func (c *copier) Damaged(w string, err error)         { panic(w) }

// TestStoreFails: a publication that must survive is not acknowledged while the
// store fails, the others go on, and it is taken again afterwards.
func TestStoreFails(t *testing.T) {
	f := &store.Failing{Store: store.NewMemory()}
	b := start(t, f)
	s := b.Connect(t, "s", codec.V311, enginetest.Resume(0))
	s.Subscribe("kept", 1)
	s.Disconnect()
	live := b.Connect(t, "live", codec.V5)
	live.Subscribe("live", 1)
	awaitAbsent(t, b, "s")
	f.Break(true)
	p := b.Connect(t, "p", codec.V5)
	p.Send(codec.AppendPublish(nil, codec.V5, &codec.Delivery{QoS: 1, PacketID: 1}, []byte("kept"), []byte("x"), nil))
	if code := p.ExpectDisconnect(); !code.Failure() { // no PUBACK before it
		t.Errorf("disconnected with %v", code)
	}
	p = b.Connect(t, "p", codec.V5)
	if code := p.Publish("kept", "y", 1); code != codec.QuotaExceeded {
		t.Errorf("while the store fails: %v", code)
	}
	if code := p.Publish("live", "z", 1); code.Failure() {
		t.Errorf("a message that need not survive: %v", code)
	}
	live.ExpectPublish("live", "z")
	f.Break(false)
	for end := time.Now().Add(enginetest.Patience); p.Publish("kept", "w", 1).Failure(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not taken again")
		}
	}
}

// awaitAbsent waits until the session of clientID has lost its connection and the
// turn that saw it has handed its changes to the store.
func awaitAbsent(t *testing.T, b *enginetest.Broker, clientID string) {
	t.Helper()
	connected := func() bool {
		s, _, found, err := b.Session(t.Context(), clientID)
		if err != nil || !found {
			t.Fatalf("session %s: found %v, %v", clientID, found, err)
		}
		return s.Connected
	}
	for end := time.Now().Add(enginetest.Patience); connected(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("session %s is still connected", clientID)
		}
	}
	connected() // in a later turn
}

// covers is for TestRequirements, which reads the calls in the files of tests.
func covers(*testing.T, ...string) {}
