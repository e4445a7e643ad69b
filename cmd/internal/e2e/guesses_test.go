package e2e

import (
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// residentBytes is what a process has in memory; 0 where the system does not tell.
func residentBytes(pid int) (n int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	var size int64
	_, _ = fmt.Sscan(string(text), &size, &n)
	return n * int64(os.Getpagesize())
}

// sysValues keeps the last value of each figure that a client reads below $SYS.
type sysValues struct {
	mu  sync.Mutex
	now map[string]string
}

func watchSys(t *testing.T, c mqtt.Client) *sysValues {
	t.Helper()
	v := &sysValues{now: make(map[string]string)}
	awaitToken(t, "SUBSCRIBE", c.Subscribe("$SYS/#", 0, func(_ mqtt.Client, m mqtt.Message) {
		v.mu.Lock()
		v.now[m.Topic()] = string(m.Payload())
		v.mu.Unlock()
	}))
	return v
}

// await waits until a figure is n.
func (v *sysValues) await(t *testing.T, name string, n int) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		v.mu.Lock()
		got := v.now["$SYS/broker/"+name]
		v.mu.Unlock()
		if got == strconv.Itoa(n) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s is %q, want %d", name, got, n)
		}
	}
}

// A traffic is one client that sends itself a message at QoS 1, again and again.
type traffic struct {
	end   chan struct{}
	done  chan struct{}
	n     int
	worst time.Duration
}

// startTraffic begins; the client must come in and may publish to and read topic.
func startTraffic(t *testing.T, c mqtt.Client, topic string) *traffic {
	t.Helper()
	tr := &traffic{end: make(chan struct{}), done: make(chan struct{})}
	got := make(chan struct{}, 1)
	awaitToken(t, "SUBSCRIBE", c.Subscribe(topic, 1, func(mqtt.Client, mqtt.Message) { got <- struct{}{} }))
	go func() {
		defer close(tr.done)
		for {
			select {
			case <-tr.end:
				return
			default:
			}
			begun := time.Now()
			c.Publish(topic, 1, false, "x")
			select {
			case <-got:
			case <-time.After(patience):
				t.Errorf("a message on %s did not come", topic)
				return
			}
			tr.n, tr.worst = tr.n+1, max(tr.worst, time.Since(begun))
			time.Sleep(time.Millisecond)
		}
	}()
	return tr
}

func (tr *traffic) stop() (n int, worst time.Duration) {
	close(tr.end)
	<-tr.done
	return tr.n, tr.worst
}

// cheapHash is a line of a password file for a user whose password is the name, which costs a tenth of what wheelmq passwd
// makes.
func cheapHash(t *testing.T, user string) string {
	t.Helper()
	const rounds = 20_000
	salt := []byte("salt of " + user)
	sum, err := pbkdf2.Key(sha512.New, user, salt, rounds, sha512.Size)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding
	return fmt.Sprintf("%s:$7$%d$%s$%s\n", user, rounds, b64.EncodeToString(salt), b64.EncodeToString(sum))
}

// TestWrongPasswords: who guesses passwords, from many addresses, is refused each time and counted, others' messages flow
// meanwhile, the right password lets in, and the memory comes back. WHEELMQ_WRONG_PASSWORDS=10000 is the whole, with the
// hash that costs most.
func TestWrongPasswords(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	guesses := 300
	whole := os.Getenv("WHEELMQ_WRONG_PASSWORDS")
	passwords := filepath.Join(t.TempDir(), "passwords")
	if whole != "" {
		if _, err := fmt.Sscan(whole, &guesses); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"-c", "-b", passwords, "ada", "ada"}, {"-b", passwords, "eve", "eve"}} {
			if status, out := wheelmq(t, append([]string{"passwd", "-H", "argon2id"}, args...)...); status != 0 {
				t.Fatal(out)
			}
		}
	} else if err := os.WriteFile(passwords, []byte(cheapHash(t, "ada")+cheapHash(t, "eve")), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	b, _ := startNative(t, port, fmt.Sprintf(`
listeners: [{address: "127.0.0.1:%d", sys: true}]
users: {password_file: %s}
store: {kind: memory}
sys_interval: 1s
`, port, passwords))
	ada, err := login(t, b, "ada", "", "ada", nil)
	if err != nil {
		t.Fatal(err)
	}
	sys := watchSys(t, ada)
	tr := startTraffic(t, ada, "loop")
	pid := b.cmd.Process.Pid
	before := residentBytes(pid)
	begun := time.Now()
	var next atomic.Int64
	var codes [256]atomic.Int64
	var all sync.WaitGroup
	for w := range 64 {
		all.Go(func() {
			from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(10+w))}, Timeout: patience}
			for next.Add(1) <= int64(guesses) {
				c, code, err := connect5(from, b.address, "eve", "guess")
				if err != nil {
					t.Errorf("a guess is not answered: %v", err)
					return
				}
				codes[code].Add(1)
				c.Close()
			}
		})
	}
	all.Wait()
	took := time.Since(begun)
	n, worst := tr.stop()
	peak := residentBytes(pid)
	looked, crowded := codes[badPassword].Load()+codes[notAuthorized].Load(), codes[unavailable].Load()+codes[tooManyWait].Load()
	t.Logf("%d guesses in %v, %d of them looked at, %d refused unseen; meanwhile %d messages, the slowest in %v; memory %d KiB before, %d after",
		guesses, took.Round(time.Millisecond), looked, crowded, n, worst.Round(time.Millisecond), before>>10, peak>>10)
	if looked+crowded != int64(guesses) || looked == 0 {
		t.Errorf("%d of %d guesses were refused as they should be", looked+crowded, guesses)
	}
	if n == 0 {
		t.Error("no message of the others came through")
	}
	sys.await(t, "wheelmq/refused", guesses)
	if _, err := login(t, b, "eve", "", "eve", nil); err != nil {
		t.Errorf("the right password: %v", err)
	}
	if whole == "" {
		return
	}
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Second) {
		now := residentBytes(pid)
		if now < before+(16<<20) {
			t.Logf("memory is back at %d KiB after %v", now>>10, (time.Since(begun) - took).Round(time.Second))
			return
		}
		if time.Now().After(end) {
			t.Fatalf("memory is at %d KiB, was %d before", now>>10, before>>10)
		}
	}
}
