package message

import (
	"bytes"
	"sync"
	"testing"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/clock"
)

// sized makes a message of n bytes of topic, properties and payload.
func sized(p *Pool, n int) *Message { return p.New(nil, make([]byte, n), nil) }

func TestNewCopies(t *testing.T) {
	topic, payload := []byte("a/b"), []byte("payload")
	props := codec.AppendBytes(nil, codec.ContentType, "text")
	wantProps := append(codec.Properties(nil), props...)
	for _, m := range []*Message{NewPool(new(Shared)).New(topic, payload, props), NewLasting(topic, payload, props)} {
		topic[0], payload[0], props[0] = '!', '!', '!'
		if string(m.Topic) != "a/b" || string(m.Payload) != "payload" || !bytes.Equal(m.Properties, wantProps) {
			t.Errorf("message %q %q % x follows the caller's buffers", m.Topic, m.Payload, m.Properties)
		}
		if got, want := m.Size(), 3+7+len(wantProps)+Overhead; got != want {
			t.Errorf("Size = %d, want %d", got, want)
		}
		// the parts do not run into each other
		_ = append(m.Topic, "xxxxxxxx"...)
		_ = append(m.Properties, "xxxxxxxx"...)
		if string(m.Payload) != "payload" || !bytes.Equal(m.Properties, wantProps) {
			t.Error("appending to one part overwrites the next")
		}
		topic[0], payload[0], props[0] = 'a', 'p', wantProps[0]
	}
}

func TestEmptyMessage(t *testing.T) {
	m := NewPool(new(Shared)).New([]byte("t"), nil, nil)
	if string(m.Topic) != "t" || len(m.Payload) != 0 || len(m.Properties) != 0 {
		t.Errorf("%q %q % x", m.Topic, m.Payload, m.Properties)
	}
}

func TestSizeClasses(t *testing.T) {
	f := func(n, capacity int) {
		t.Helper()
		if got := cap(sized(NewPool(new(Shared)), n).buf); got != capacity {
			t.Errorf("a message of %d bytes has a buffer of %d, want %d", n, got, capacity)
		}
	}
	f(0, 128)
	f(1, 128)
	f(128, 128)
	f(129, 192)
	f(192, 192)
	f(193, 256)
	f(256, 256)
	f(257, 384)
	f(16<<10+20, 24<<10)
	f(768<<10+1, 1<<20)
	f(1<<20, 1<<20)
	if c := classOf(1<<20 + 1); c != unpooled {
		t.Errorf("class of a larger one is %d, want none", c)
	}
	if m := NewLasting([]byte("t"), make([]byte, 200), nil); cap(m.buf) != 201 || m.class != unpooled {
		t.Errorf("a lasting message has a buffer of %d, want 201", cap(m.buf))
	}
	for c := range uint8(numClasses) {
		if n := batchOf(c); n < 1 || n > batchMessages || n > 1 && n*classSize(c) > batchBytes {
			t.Errorf("batches of class %d hold %d messages", c, n)
		}
	}
}

func TestReferencesAreCounted(t *testing.T) {
	p := NewPool(new(Shared))
	m := sized(p, 10)
	m.Retain()
	m.Retain()
	m.Release(p)
	m.Release(p)
	if len(m.Payload) != 10 {
		t.Fatal("recycled with a reference left")
	}
	if other := sized(p, 10); other == m {
		t.Fatal("given out again with a reference left")
	}
	m.Expires, m.QoS, m.Retained = 1, 2, true
	m.Release(p)
	again := sized(p, 20)
	if again != m {
		t.Error("not recycled with the last reference")
	}
	if again.Expires != 0 || again.QoS != 0 || again.Retained || len(again.Payload) != 20 || again.next != nil {
		t.Errorf("a recycled message keeps what it was: %+v", again)
	}
}

func TestReleasedTooOften(t *testing.T) {
	for _, m := range []*Message{NewPool(new(Shared)).New(nil, nil, nil), NewLasting(nil, nil, nil)} {
		p := NewPool(new(Shared))
		m.Release(p)
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a second Release does not panic")
				}
			}()
			m.Release(p)
		}()
	}
}

func TestLastingMessagesAreNotRecycled(t *testing.T) {
	p := NewPool(new(Shared))
	m := NewLasting([]byte("t"), []byte("x"), nil)
	m.Release(p)
	if sized(p, 2) == m {
		t.Error("a lasting message was given out again")
	}
}

func TestClassesDoNotMix(t *testing.T) {
	p := NewPool(new(Shared))
	small, large := sized(p, 100), sized(p, 1000)
	small.Release(p)
	large.Release(p)
	if m := sized(p, 500); m == small || m == large || cap(m.buf) != 512 {
		t.Error("a message of another class was given out")
	}
	if m := sized(p, 900); m != large {
		t.Error("the free message of the class was not taken")
	}
}

// TestPoolsExchangeBatches: what one loop takes and another gives back comes round.
func TestPoolsExchangeBatches(t *testing.T) {
	shared := new(Shared)
	publisher, subscriber := NewPool(shared), NewPool(shared)
	made := make(map[*Message]bool)
	for range 10_000 {
		m := sized(publisher, 100)
		made[m] = true
		m.Release(subscriber)
	}
	if n := len(made); n > 4*batchMessages {
		t.Errorf("%d messages were made for one at a time, want at most %d", n, 4*batchMessages)
	}
}

// TestPoolsAreBounded: what nobody takes goes to the collector.
func TestPoolsAreBounded(t *testing.T) {
	shared := new(Shared)
	p := NewPool(shared)
	f := func(n, times int) {
		t.Helper()
		var all []*Message
		for range times {
			all = append(all, sized(p, n))
		}
		for _, m := range all {
			m.Release(p)
		}
		class := classOf(n)
		waiting := 0
		for _, head := range shared.batches[class] {
			size := 0
			for m := head; m != nil; m = m.next {
				size++
			}
			if size != batchOf(class) {
				t.Errorf("class %d: a batch of %d, want %d", class, size, batchOf(class))
			}
			waiting++
		}
		if bytes := waiting * batchOf(class) * classSize(class); bytes > sharedBytes || bytes < sharedBytes/2 {
			t.Errorf("class %d: %d bytes wait, want up to %d", class, bytes, sharedBytes)
		}
		seen := make(map[*Message]bool)
		for range times {
			m := sized(p, n)
			if seen[m] {
				t.Fatalf("class %d: one message was given out twice", class)
			}
			seen[m] = true
		}
	}
	f(100, 2*sharedBytes/128)
	f(60<<10, 128)
	f(1<<20, 8)
}

func TestPoolsOfManyLoops(t *testing.T) {
	shared := new(Shared)
	ring := make([]chan *Message, 4)
	for i := range ring {
		ring[i] = make(chan *Message, 8192)
	}
	var done sync.WaitGroup
	for i := range ring {
		done.Go(func() { // a loop: makes messages for the next one, releases those of the one before
			p := NewPool(shared)
			for n := range 5000 {
				m := p.New([]byte{byte(i)}, []byte{byte(n)}, nil)
				m.Retain()
				ring[(i+1)%len(ring)] <- m
				if m.Topic[0] != byte(i) || m.Payload[0] != byte(n) {
					t.Errorf("loop %d: message %d is another's", i, n)
				}
				m.Release(p)
			}
			for range 5000 {
				m := <-ring[i]
				if m.Topic[0] != byte(i+len(ring)-1)%byte(len(ring)) {
					t.Errorf("loop %d: a message of loop %d", i, m.Topic[0])
				}
				m.Release(p)
			}
		})
	}
	done.Wait()
}

func TestExpired(t *testing.T) {
	f := func(expires, now clock.Time, want bool) {
		t.Helper()
		m := NewLasting(nil, nil, nil)
		if m.Expires = expires; m.Expired(now) != want {
			t.Errorf("Expires %d at %d: %v, want %v", expires, now, !want, want)
		}
	}
	f(0, 1<<62, false) // never
	f(10, 9, false)
	f(10, 10, true)
	f(10, 11, true)
}

func TestNoAllocs(t *testing.T) {
	p := NewPool(new(Shared))
	topic, payload := []byte("a/b"), make([]byte, 300)
	if n := testing.AllocsPerRun(1000, func() {
		m := p.New(topic, payload, nil)
		m.Retain()
		m.Release(p)
		m.Release(p)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
