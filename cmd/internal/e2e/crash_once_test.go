package e2e

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/engine/client"
)

// TestKillOnce kills the broker with SIGKILL at random moments under two clients that come back by themselves, as the
// standard says: QoS 2 messages arrive once and in order, QoS 1 messages all, and for the first time in order. WHEELMQ_KILLS
// is how often; without it the test is left to make crash.
func TestKillOnce(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	kills, err := strconv.Atoi(os.Getenv("WHEELMQ_KILLS"))
	if err != nil {
		return // make crash runs it
	}
	keptIn, port := killStore(t, cmp.Or(os.Getenv("WHEELMQ_KILL_STORE"), "pebble")), freePort(t)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	begin := func() *broker {
		b := &broker{port: port, address: address, stopped: true}
		unbounded := []string{"WHEELMQ_LIMITS__QUEUE__MESSAGES=unlimited", "WHEELMQ_LIMITS__QUEUE__BYTES=unlimited"} // the subscriber comes back late
		b.process = startProcess(t, nil, unbounded, wheelmqPath, "--listen", address, "--store", keptIn)
		b.awaitOpen(t)
		return b
	}
	b := begin()
	connect := func(id string) *client.Client {
		c, err := client.New(client.Options{Servers: []string{"mqtt://" + address}, ClientID: id, SessionExpiry: 3600, FirstMayFail: true,
			MinPause: 5 * time.Millisecond, MaxPause: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := c.Connect(ctx); err != nil {
			t.Fatalf("%s: %v\n%s", id, err, &b.log)
		}
		return c
	}
	var mu sync.Mutex
	var once, atLeast []int
	sub := connect("subscriber")
	for filter, list := range map[string]*[]int{"kill/1": &atLeast, "kill/2": &once} {
		_, err := sub.Subscribe(t.Context(), client.Subscription{Filter: filter, QoS: 2, Handler: func(m *client.Message) {
			n, err := strconv.Atoi(string(m.Payload))
			if err != nil {
				n = -1
			}
			mu.Lock()
			defer mu.Unlock()
			*list = append(*list, n)
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	pub := connect("publisher")
	var tokens []*client.Token
	stop, published := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(published)
		for i := 0; ; i++ {
			for qos := 1; qos <= 2; qos++ {
				token, err := pub.PublishAsync(client.Message{Topic: fmt.Sprint("kill/", qos), QoS: client.QoS(qos), Payload: strconv.AppendInt(nil, int64(i), 10)})
				if err != nil {
					t.Error(err)
					return
				}
				tokens = append(tokens, token)
			}
			select {
			case <-stop:
				return
			case <-tokens[max(0, len(tokens)-200)].Done(): // so many are under way
			}
		}
	}()
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for range kills {
		time.Sleep(time.Duration(20+rng.IntN(300)) * time.Millisecond)
		_ = b.cmd.Process.Kill()
		<-b.ended
		b = begin()
	}
	time.Sleep(100 * time.Millisecond)
	close(stop)
	<-published
	for _, token := range tokens {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := token.Wait(ctx)
		cancel()
		if err != nil {
			t.Fatalf("a publication failed: %v", err)
		}
	}
	n := len(tokens) / 2
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		mu.Lock()
		got1, got2 := append([]int(nil), atLeast...), append([]int(nil), once...)
		mu.Unlock()
		first := inOrder(got1)
		if len(got2) >= n && first == n {
			for i, m := range got2 {
				if m != i {
					t.Fatalf("at QoS 2 message %d is %d: lost, doubled or out of order", i, m)
				}
			}
			t.Logf("%d kills, %d messages of each QoS; %d repetitions at QoS 1", kills, n, len(got1)-n)
			break
		}
		if time.Now().After(end) {
			t.Fatalf("of %d messages %d arrived at QoS 2, %d in order at QoS 1 (%d in all)\n%s", n, len(got2), first, len(got1), &b.log)
		}
	}
	b.stop(t)
}

// inOrder is how many of 0, 1, 2, ... came for the first time in their order.
func inOrder(list []int) (next int) {
	for _, m := range list {
		if m == next {
			next++
		}
	}
	return next
}
