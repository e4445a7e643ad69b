package client_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/client"
	"github.com/wheelmq/wheelmq/engine/enginetest"
)

// publisherEnv makes the test binary a program that publishes: address, store, QoS and life, for [TestKilled].
const publisherEnv = "WHEELMQ_TEST_PUBLISHER"

// TestPublisherProcess is the program that TestKilled kills. It publishes "life/0", "life/1" and so on, many at once, goes
// on with what its store has of earlier lives, and ends when its standard input does and all is acknowledged.
func TestPublisherProcess(t *testing.T) {
	arguments := strings.Fields(os.Getenv(publisherEnv))
	if len(arguments) == 0 {
		return // TestKilled runs it
	}
	address, path, life := arguments[0], arguments[1], arguments[3]
	qos, err := strconv.Atoi(arguments[2])
	if err != nil {
		t.Fatal(err)
	}
	s, err := client.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Options{Servers: []string{"mqtt://" + address}, ClientID: "killed", SessionExpiry: 3600, MaxInflight: 20, Store: s})
	if err != nil {
		t.Fatal(err)
	}
	tokens := c.Restored()
	if err := c.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	for i := 0; ; i++ {
		select {
		case <-stop:
			for _, token := range tokens {
				if _, err := token.Wait(within(t)); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Disconnect(within(t)); err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
		token, err := c.PublishAsync(client.Message{Topic: "k", Payload: fmt.Appendf(nil, "%s/%d", life, i), QoS: codec.QoS(qos)})
		if err != nil {
			t.Fatal(err)
		}
		if tokens = append(tokens, token); len(tokens) >= 30 {
			if _, err := tokens[0].Wait(within(t)); err != nil {
				t.Fatal(err)
			}
			tokens = tokens[1:]
		}
	}
}

// TestKilled kills a program that publishes, again and again, amid what is under way. Of each of its lives a beginning
// arrives, without a gap and in order: at QoS 2 once, at QoS 1 at least once.
func TestKilled(t *testing.T) {
	const lives = 8
	for qos := codec.QoS(1); qos <= 2; qos++ {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			t.Parallel()
			b := broker(t)
			var got collector
			sub := connect(t, client.Options{Servers: to(b)})
			if _, err := sub.Subscribe(within(t), client.Subscription{Filter: "k", QoS: 2, Handler: got.add}); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "store")
			for life := range lives {
				cmd := exec.Command(os.Args[0], "-test.run=^TestPublisherProcess$", "-test.timeout=60s")
				cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d %d", publisherEnv, b.Address(), path, qos, life))
				var said strings.Builder
				cmd.Stdout, cmd.Stderr = &said, &said
				stdin, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- cmd.Wait() }()
				for end := time.Now().Add(enginetest.Patience); !got.has(fmt.Sprint(life, "/", 50+17*life)); time.Sleep(time.Millisecond) {
					select {
					case err := <-ended:
						t.Fatalf("life %d: %v\n%s", life, err, &said)
					default:
					}
					if time.Now().After(end) {
						_ = cmd.Process.Kill()
						t.Fatalf("life %d: nothing comes", life)
					}
				}
				if life < lives-1 {
					_ = cmd.Process.Kill()
					<-ended
					continue
				}
				stdin.Close()
				if err := <-ended; err != nil {
					t.Errorf("%v\n%s", err, &said)
				}
			}
			if _, err := connect(t, client.Options{Servers: to(b)}).Publish(within(t), client.Message{Topic: "k", Payload: []byte("end"), QoS: 2}); err != nil {
				t.Fatal(err)
			}
			texts := got.until(t, "end")
			if qos == 1 {
				texts = firsts(texts)
			}
			life, next := 0, 0
			for i, text := range texts[:len(texts)-1] {
				switch text {
				case fmt.Sprint(life, "/", next):
				case fmt.Sprint(life+1, "/", 0):
					life, next = life+1, 0
				default:
					t.Fatalf("%q behind %q", text, texts[max(0, i-3):i])
				}
				next++
			}
			if life != lives-1 {
				t.Errorf("%d lives, want %d", life+1, lives)
			}
		})
	}
}
