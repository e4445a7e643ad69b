package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/wheelmq/wheelmq/engine/store/sqlstore/mariadbtest"
)

// TestKill kills the broker with SIGKILL at random moments while a client of
// Eclipse Paho publishes at QoS 1 and 2: what was acknowledged arrives, after
// each start again, at a subscriber that was away as often as there. Paho
// publishes again what was not acknowledged. WHEELMQ_KILLS is how often; make
// crash does it a thousand times, with the store that WHEELMQ_KILL_STORE names.
func TestKill(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	kinds := []string{"pebble", "sqlite"}
	if kind := os.Getenv("WHEELMQ_KILL_STORE"); kind != "" {
		kinds = []string{kind}
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) { killed(t, killStore(t, kind)) })
	}
}

// killStore is a new store of a kind, for --store.
func killStore(t *testing.T, kind string) string {
	if kind == "mysql" {
		return mysqlStore(t, mariadbtest.Start(t))
	}
	return kind + ":" + filepath.Join(t.TempDir(), "store")
}

func killed(t *testing.T, keptIn string) {
	kills := 4
	if n, err := strconv.Atoi(os.Getenv("WHEELMQ_KILLS")); err == nil {
		kills = n
	}
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	var mu sync.Mutex
	arrived, acknowledged := map[string]bool{}, []string{}
	for round := range kills {
		b := startBroker(t, "--store", keptIn)
		if round == 0 {
			s := away(t, b, "subscriber", nil)
			if token := s.Subscribe("kill/#", 2, nil); !token.WaitTimeout(patience) || token.Error() != nil {
				t.Fatal(token.Error())
			}
			s.Disconnect(250)
		}
		var s mqtt.Client
		if round%2 == 1 {
			s = away(t, b, "subscriber", func(_ mqtt.Client, m mqtt.Message) {
				mu.Lock()
				defer mu.Unlock()
				arrived[string(m.Payload())] = true
			})
		}
		p := away(t, b, fmt.Sprint("publisher", round), nil)
		killed := make(chan struct{})
		after := time.Duration(20+rng.IntN(300)) * time.Millisecond
		time.AfterFunc(after, func() {
			_ = b.cmd.Process.Kill()
			close(killed)
		})
		acknowledged = append(acknowledged, publishUntil(p, round, killed)...)
		<-b.ended
		b.stopped = true
		p.Disconnect(0)
		if s != nil {
			s.Disconnect(0)
		}
	}
	b := startBroker(t, "--store", keptIn)
	s := away(t, b, "subscriber", func(_ mqtt.Client, m mqtt.Message) {
		mu.Lock()
		defer mu.Unlock()
		arrived[string(m.Payload())] = true
	})
	defer s.Disconnect(0)
	missing := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.DeleteFunc(slices.Clone(acknowledged), func(m string) bool { return arrived[m] })
	}
	for end := time.Now().Add(patience); len(missing()) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d acknowledged messages are lost: %v", len(missing()), len(acknowledged), missing())
		}
	}
	t.Logf("%d kills, %d messages acknowledged, all arrived", kills, len(acknowledged))
	if len(acknowledged) == 0 {
		t.Error("nothing was acknowledged between the kills")
	}
}

// away connects a client whose session outlives its connection.
func away(t *testing.T, b *broker, id string, deliver mqtt.MessageHandler) mqtt.Client {
	t.Helper()
	o := mqtt.NewClientOptions().AddBroker("tcp://" + b.address).SetClientID(id).SetCleanSession(false).SetAutoReconnect(false)
	if deliver != nil {
		o.SetDefaultPublishHandler(deliver)
	}
	c := mqtt.NewClient(o)
	if token := c.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("%s: %v\n%s", id, token.Error(), &b.log)
	}
	return c
}

// publishUntil publishes until killed and returns what was acknowledged.
func publishUntil(c mqtt.Client, round int, killed chan struct{}) (acknowledged []string) {
	for i := 0; ; i++ {
		payload := fmt.Sprintf("%d/%d", round, i)
		token := c.Publish(fmt.Sprint("kill/", i%3), byte(1+i%2), false, payload)
		select {
		case <-token.Done():
			if token.Error() != nil {
				<-killed
				return acknowledged
			}
			acknowledged = append(acknowledged, payload)
		case <-killed:
			return acknowledged
		}
	}
}
