package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// soon is a context for what has to happen now, on a slow machine too.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eachBroker runs f with a broker of one loop and one of two, on sockets.
func eachBroker(t *testing.T, o Options, f func(t *testing.T, b *Broker)) {
	for _, loops := range []int{1, 2} {
		o.Loops = loops
		t.Run(fmt.Sprintf("loops=%d", loops), func(t *testing.T) { f(t, startBroker(t, o)) })
	}
}

// inbox collects what an in-process subscription gets.
type inbox struct {
	mu  sync.Mutex
	got []Message
}

func (i *inbox) handle(m Message) {
	i.mu.Lock()
	i.got = append(i.got, m)
	i.mu.Unlock()
}

func (i *inbox) await(t *testing.T, want ...string) {
	t.Helper()
	var lines []string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		i.mu.Lock()
		lines = lines[:0]
		for _, m := range i.got {
			lines = append(lines, fmt.Sprintf("%s %q q%d r%v from %q", m.Topic, m.Payload, m.QoS, m.Retain, m.From))
		}
		i.mu.Unlock()
		if len(lines) >= len(want) {
			break
		}
	}
	if !slices.Equal(lines, want) {
		t.Fatalf("got\n\t%q\nwant\n\t%q", lines, want)
	}
}

func TestPublishInProcess(t *testing.T) {
	eachBroker(t, Options{}, func(t *testing.T, b *Broker) {
		sub := connectSocket(t, b, codec.V5, "sub", true).subscribe(filter("a/#", 1))
		f := func(m Message, want codec.ReasonCode) {
			t.Helper()
			if code, err := b.Publish(soon(t), m); err != nil || code != want {
				t.Errorf("Publish(%+v) = %v, %v, want %v", m, code, err, want)
			}
		}
		f(Message{Topic: "a/1", Payload: []byte("x"), QoS: 1, Expiry: time.Minute, From: "me",
			Properties: codec.AppendUserProperty(nil, "k", "v")}, codec.Success)
		sub.expect(`PUBLISH q1 r0 d0 id=1 "a/1" "x" expiry=60 {UserProperty="k":"v"}`)
		f(Message{Topic: "nobody"}, codec.NoMatchingSubscribers)
		f(Message{Topic: "kept", Payload: []byte("r"), Retain: true}, codec.NoMatchingSubscribers)
		if n := b.Stats().RetainedMessages; n != 1 {
			t.Errorf("%d retained messages, want 1", n)
		}
		if err := b.Post(Message{Topic: "a/2", Payload: []byte("y")}); err != nil {
			t.Error(err)
		}
		sub.expect(`PUBLISH q0 r0 d0 "a/2" "y"`)
		for _, bad := range []Message{{}, {Topic: "a/#"}, {Topic: "a", QoS: 3}, {Topic: "a", Payload: make([]byte, 2<<20)}} {
			if _, err := b.Publish(soon(t), bad); err == nil {
				t.Errorf("%q, QoS %d, %d bytes was taken", bad.Topic, bad.QoS, len(bad.Payload))
			}
		}
	})
}

func TestPublishInProcessPassesInterceptors(t *testing.T) {
	i := &interceptor{publish: func(c hook.Client, p *hook.Publication) hook.Outcome {
		p.Payload = []byte(c.ClientID + "!")
		if string(p.Topic) == "stop" {
			return hook.Outcome{Stop: true, Code: codec.NotAuthorized}
		}
		return hook.Outcome{}
	}}
	eachBroker(t, Options{Hooks: []any{i}}, func(t *testing.T, b *Broker) {
		var in inbox
		_, err := b.Subscribe(soon(t), SubscribeOptions{Filter: "#", QoS: 2}, in.handle)
		must(t, err)
		if code, err := b.Publish(soon(t), Message{Topic: "stop"}); err != nil || code != codec.NotAuthorized {
			t.Errorf("stopped: %v, %v", code, err)
		}
		must(t, b.Post(Message{Topic: "go", From: "me"}))
		in.await(t, `go "me!" q0 rfalse from "me"`)
	})
}

func TestSubscribeInProcess(t *testing.T) {
	eachBroker(t, Options{}, func(t *testing.T, b *Broker) {
		pub := connectSocket(t, b, codec.V5, "pub", true)
		must(t, pub.send(publishPacket(codec.V5, "t/kept", "1", 1, 1, retain)))
		pub.expect("PUBACK 1 10")
		var in inbox
		s, err := b.Subscribe(soon(t), SubscribeOptions{Filter: "t/#", QoS: 1}, in.handle)
		must(t, err)
		must(t, pub.send(publishPacket(codec.V5, "t/live", "2", 2, 2)))
		pub.expect("PUBREC 2 00") // somebody subscribes
		in.await(t, `t/kept "1" q1 rtrue from "pub"`, `t/live "2" q1 rfalse from "pub"`)
		s.Cancel()
		select {
		case <-s.Done():
		case <-soon(t).Done():
			t.Fatal("the subscription did not end")
		}
		for b.Stats().Subscriptions > 0 {
			time.Sleep(time.Millisecond)
		}
		must(t, pub.send(publishPacket(codec.V5, "t/live", "3", 1, 3)))
		pub.expect("PUBACK 3 10")
		if n := b.Stats().Sessions; n != 1 {
			t.Errorf("%d sessions, want 1", n)
		}
	})
}

func TestSubscribeInProcessShared(t *testing.T) {
	eachBroker(t, Options{}, func(t *testing.T, b *Broker) {
		var one, two inbox
		for _, in := range []*inbox{&one, &two} {
			_, err := b.Subscribe(soon(t), SubscribeOptions{Filter: "$share/g/t"}, in.handle)
			must(t, err)
		}
		for range 10 {
			_, err := b.Publish(soon(t), Message{Topic: "t"})
			must(t, err)
		}
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			one.mu.Lock()
			two.mu.Lock()
			a, b := len(one.got), len(two.got)
			two.mu.Unlock()
			one.mu.Unlock()
			if a == 5 && b == 5 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%d and %d messages, want 5 each", a, b)
			}
		}
	})
}

func TestSubscribeInProcessOverflow(t *testing.T) {
	for policy, want := range map[OverflowPolicy][]string{DropNewest: {"0", "1", "2"}, DropOldest: {"0", "3", "4"}} {
		eachBroker(t, Options{}, func(t *testing.T, b *Broker) {
			block, first := make(chan struct{}), make(chan struct{}, 10)
			var mu sync.Mutex
			var got []string
			s, err := b.Subscribe(soon(t), SubscribeOptions{Filter: "t", Queue: 2, Overflow: policy}, func(m Message) {
				first <- struct{}{}
				<-block
				mu.Lock()
				got = append(got, string(m.Payload))
				mu.Unlock()
			})
			must(t, err)
			for i := range 5 {
				_, err := b.Publish(soon(t), Message{Topic: "t", Payload: fmt.Append(nil, i)})
				must(t, err)
				if i == 0 {
					<-first
				}
			}
			if s.Dropped() != 2 {
				t.Errorf("%d dropped, want 2", s.Dropped())
			}
			close(block)
			for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
				mu.Lock()
				n := len(got)
				mu.Unlock()
				if n == 3 {
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(got, want) {
				t.Errorf("policy %v: got %q, want %q", policy, got, want)
			}
		})
	}
}

// echo publishes from inside hooks, and asks the broker about itself.
type echo struct{ b *Broker }

func (e *echo) Published(c hook.Client, p hook.Publication, _ codec.ReasonCode) {
	if string(p.Topic) == "ping" {
		_ = e.b.Post(Message{Topic: "pong", Payload: []byte(c.ClientID)})
	}
}

func TestPublishFromHook(t *testing.T) {
	e := &echo{}
	eachBroker(t, Options{}, func(t *testing.T, b *Broker) {
		e.b = b
		_, err := b.AddHook(e)
		must(t, err)
		p := connectSocket(t, b, codec.V5, "p", true).subscribe(filter("pong", 0))
		for range 3 {
			must(t, p.send(publishPacket(codec.V5, "ping", "", 0, 0)))
			p.expect(`PUBLISH q0 r0 d0 "pong" "p"`)
		}
	})
}

func TestAfterStop(t *testing.T) {
	b := startBroker(t, Options{})
	ended := make(chan struct{})
	s, err := b.Subscribe(context.Background(), SubscribeOptions{Filter: "t"}, func(Message) {})
	must(t, err)
	go func() { <-s.Done(); close(ended) }()
	must(t, b.Stop(soon(t)))
	<-ended
	if _, err := b.Publish(soon(t), Message{Topic: "t"}); !errors.Is(err, ErrClosed) {
		t.Errorf("Publish: %v, want ErrClosed", err)
	}
	if _, err := b.Subscribe(soon(t), SubscribeOptions{Filter: "t"}, func(Message) {}); !errors.Is(err, ErrClosed) {
		t.Errorf("Subscribe: %v, want ErrClosed", err)
	}
	if err := b.Sessions(soon(t), func(SessionStatus) bool { return true }); !errors.Is(err, ErrClosed) {
		t.Errorf("Sessions: %v, want ErrClosed", err)
	}
}

func TestInspect(t *testing.T) {
	eachBroker(t, Options{}, func(t *testing.T, b *Broker) {
		p := connectSocket(t, b, codec.V5, "p", true, keepFor(60), login("ada", ""), keepAlive(30)).subscribe(filter("a", 1), filter("b/#", 2))
		away := connectSocket(t, b, codec.V5, "away", true, keepFor(60)).subscribe(filter("a", 1))
		must(t, away.send(disconnectPacket(codec.V5, 0)))
		away.expect("end")
		for {
			s, _, found, err := b.Session(soon(t), "away")
			must(t, err)
			if found && !s.Connected {
				break
			}
		}
		_, err := b.Publish(soon(t), Message{Topic: "a", Payload: []byte("x"), QoS: 1})
		must(t, err)
		p.expect(`PUBLISH q1 r0 d0 id=1 "a" "x"`)

		all := make(map[string]SessionStatus)
		must(t, b.Sessions(soon(t), func(s SessionStatus) bool { all[s.ClientID] = s; return true }))
		if s := all["p"]; len(all) != 2 || !s.Connected || s.UserName != "ada" || s.Version != codec.V5 || s.KeepAlive != 30 ||
			s.SessionExpiry != 60 || s.Subscriptions != 2 || s.InFlight != 1 || s.RemoteAddr == nil {
			t.Errorf("sessions %+v", all)
		}
		if s := all["away"]; s.Connected || s.QueuedMessages != 1 || s.QueuedBytes == 0 {
			t.Errorf("absent session %+v", s)
		}
		_, subs, found, err := b.Session(soon(t), "p")
		if want := []hook.Subscription{{Filter: "a", QoS: 1}, {Filter: "b/#", QoS: 2}}; err != nil || !found || !slices.Equal(subs, want) {
			t.Errorf("subscriptions %+v, %v, %v", subs, found, err)
		}
		if _, _, found, err := b.Session(soon(t), "nobody"); found || err != nil {
			t.Errorf("a session of nobody: %v, %v", found, err)
		}
		n := 0
		must(t, b.Sessions(soon(t), func(SessionStatus) bool { n++; return false }))
		if n != 1 {
			t.Errorf("visited %d sessions after saying stop, want 1", n)
		}
	})
}

func TestActOnSessions(t *testing.T) {
	eachBroker(t, Options{}, func(t *testing.T, b *Broker) {
		p := connectSocket(t, b, codec.V5, "p", true, keepFor(60))
		codes, found, err := b.SubscribeClient(soon(t), "p", hook.Subscription{Filter: "a", QoS: 1}, hook.Subscription{Filter: "a/#/b"})
		if want := []codec.ReasonCode{1, codec.TopicFilterInvalid}; err != nil || !found || !slices.Equal(codes, want) {
			t.Errorf("SubscribeClient: %v, %v, %v", codes, found, err)
		}
		_, err = b.Publish(soon(t), Message{Topic: "a", Payload: []byte("x")})
		must(t, err)
		p.expect(`PUBLISH q0 r0 d0 "a" "x"`)
		codes, _, err = b.UnsubscribeClient(soon(t), "p", "a", "b")
		if want := []codec.ReasonCode{0, codec.NoSubscriptionExisted}; err != nil || !slices.Equal(codes, want) {
			t.Errorf("UnsubscribeClient: %v, %v", codes, err)
		}
		if found, err := b.DeleteSession(soon(t), "p"); !found || err != nil {
			t.Errorf("DeleteSession: %v, %v", found, err)
		}
		p.expect("DISCONNECT 98")
		if found, err := b.DeleteSession(soon(t), "p"); found || err != nil {
			t.Errorf("a second DeleteSession: %v, %v", found, err)
		}
	})
}

func TestRetainedInProcess(t *testing.T) {
	eachBroker(t, Options{SysInterval: -1}, func(t *testing.T, b *Broker) {
		for i := range 100 {
			_, err := b.Publish(soon(t), Message{Topic: fmt.Sprintf("r/%02d", i), Payload: []byte("x"), Retain: true})
			must(t, err)
		}
		var names []string
		b.RetainedMessages("r/+", func(m Message) bool { names = append(names, m.Topic); return len(names) < 70 })
		if len(names) != 70 || !slices.IsSorted(names) {
			t.Errorf("%d names, sorted %v", len(names), slices.IsSorted(names))
		}
		n, err := b.ClearRetained(soon(t), "r/+")
		if n != 100 || err != nil || b.retained.messages() != 0 {
			t.Errorf("cleared %d, %v; %d left", n, err, b.retained.messages())
		}
	})
}
