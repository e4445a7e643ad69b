package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/store"
)

func commit(t *testing.T, s store.Store, fill func(*store.Batch)) {
	t.Helper()
	b, done := &store.Batch{}, make(chan error, 1)
	fill(b)
	if err := s.Commit(b, func(_ *store.Batch, err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// filled is a store with everything that there can be.
func filled(t *testing.T) *store.Memory {
	s := store.NewMemory()
	commit(t, s, func(b *store.Batch) {
		m := func(i int) *store.Message {
			return &store.Message{Topic: []byte("t/β"), Payload: fmt.Appendf(nil, "message %d", i), QoS: 2, Expires: 1e18,
				Publisher: "p", Properties: codec.AppendUserProperty(nil, "a", "b")}
		}
		for id := range store.SessionID(2) {
			b.PutSession(100+id, &store.Session{ClientID: fmt.Sprint("c", id), UserName: "u", Expiry: 60, EndsAt: 2e18,
				Will: &store.Will{Message: *m(0), Delay: 1, Expiry: 2, HasExpiry: true, At: 3e18}})
			b.PutSubscription(100+id, &store.Subscription{Filter: "$share/g/t/+", Options: 0x2D, Identifier: 7})
			b.Receive(100+id, 77)
		}
		for i := range store.MessageID(6) {
			b.PutMessage(200+i, m(int(i)))
		}
		b.Deliver(100, 200, &store.Delivery{Message: 200, QoS: 1, State: store.AwaitPuback, PacketID: 3, IDs: []uint32{7}})
		b.Deliver(100, 201, &store.Delivery{Message: 201, QoS: 2, State: store.AwaitPubrec, PacketID: 1})
		b.Deliver(100, 199, &store.Delivery{QoS: 2, State: store.AwaitPubcomp, PacketID: 2})
		for i := range store.MessageID(4) {
			b.Deliver(100, store.Position(202+i), &store.Delivery{Message: 202 + i, QoS: 2, Retain: i == 1})
			b.Deliver(101, store.Position(202+i), &store.Delivery{Message: 202 + i, QoS: 1, IDs: []uint32{1, 2}})
		}
		r := m(9)
		r.Payload = []byte{0, 1, 0xFF}
		b.PutRetained(r)
	})
	return s
}

func sorted(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func dumped(t *testing.T, s store.Store) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := Dump(context.Background(), s, &b, nil); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestExport: what is exported and imported is the same, identifiers aside.
func TestExport(t *testing.T) {
	ctx := context.Background()
	from := filled(t)
	var file bytes.Buffer
	counts, err := Export(ctx, from, &file, nil)
	if want := (Counts{Sessions: 2, Subscriptions: 2, InFlight: 3, Queued: 8, Retained: 1}); err != nil || counts != want {
		t.Fatalf("%+v, %v", counts, err)
	}
	if n := strings.Count(file.String(), `"message":{"id"`); n != 6 {
		t.Errorf("%d messages in the file, want each once: 6", n)
	}
	to := store.NewMemory()
	commit(t, to, func(b *store.Batch) { b.Forget(50, 1) }) // identifiers begin elsewhere
	again, err := Import(ctx, to, bytes.NewReader(file.Bytes()))
	if err != nil || again != counts {
		t.Fatalf("%+v, %v", again, err)
	}
	// Queues keep their order within one session, which lines have as they come.
	if got, want := sorted(dumped(t, to)), sorted(dumped(t, from)); got != want {
		t.Errorf("imported is\n%s\nwant\n%s", got, want)
	}
	var second bytes.Buffer
	if _, err := Export(ctx, to, &second, nil); err != nil {
		t.Fatal(err)
	}
	if file.Len() == second.Len() == false && len(file.String()) == 0 {
		t.Error("nothing was exported")
	}
	for _, name := range []string{"c0", "c1"} {
		last := ""
		for l := range strings.Lines(dumped(t, to)) {
			if strings.Contains(l, name) && strings.Contains(l, `"queued"`) {
				if l < last {
					t.Errorf("order of %s: %s comes behind %s", name, l, last)
				}
				last = l
			}
		}
	}
	if _, err := Import(ctx, to, bytes.NewReader(file.Bytes())); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("into a store with something in it: %v", err)
	}
}

// TestBadExport: a file that is not whole, or not ours, changes nothing.
func TestBadExport(t *testing.T) {
	ctx := context.Background()
	var file bytes.Buffer
	if _, err := Export(ctx, filled(t), &file, nil); err != nil {
		t.Fatal(err)
	}
	good := file.String()
	f := func(what, text, want string) {
		t.Helper()
		s := store.NewMemory()
		_, err := Import(ctx, s, strings.NewReader(text))
		if !errors.Is(err, ErrFile) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
		if got := dumped(t, s); got != "" {
			t.Errorf("%s: the store holds %s", what, got)
		}
	}
	f("no end", good[:strings.LastIndex(good, `{"end"`)], "not complete")
	f("cut off", good[:len(good)/2], "line ")
	f("newer", strings.Replace(good, `"version":1`, `"version":2`, 1), "version 2, this one reads 1")
	f("other JSON", `{"a":1}`, "line 1")
	f("no header", good[strings.Index(good, "\n")+1:], "line 1")
	f("empty", "", "not complete")
	head := good[:strings.Index(good, "\n")+1]
	f("no message", head+`{"session":{"id":1,"client_id":"c"}}{"queued":{"session":1,"position":5,"message":5,"qos":1}}`, "does not come before it")
	f("no session", head+`{"message":{"id":5,"topic":"t"}}{"queued":{"session":1,"position":5,"message":5,"qos":1}}`, "session before it")
	f("wildcard", head+`{"message":{"id":5,"topic":"#"}}`, `"#"`)
	f("bad state", head+`{"message":{"id":5,"topic":"t"}}{"session":{"id":1,"client_id":"c","in_flight":[{"position":5,"message":5,"qos":1,"state":1}]}}`, "packet 0")
	f("two messages", head+`{"message":{"id":5,"topic":"t"}}{"message":{"id":5,"topic":"t"}}`, "of its own")
	f("bad filter", head+`{"session":{"id":1,"client_id":"c","subscriptions":[{"filter":"a#"}]}}`, `"a#"`)
}

// FuzzMosquitto: any bytes are read or refused, and what is read can be written.
func FuzzMosquitto(f *testing.F) {
	f.Add([]byte(mosquittoMagic + "\x00\x00\x00\x00\x00\x00\x00\x06\x00\x00\x00\x04\x00\x00\x00\x08\x01\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := store.NewMemory()
		if _, _, err := ImportMosquitto(context.Background(), s, bytes.NewReader(b)); err != nil && !errors.Is(err, ErrFile) {
			t.Error(err)
		}
	})
}
