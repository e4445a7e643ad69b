package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wheelmq/wheelmq/engine/store/sqlstore/mariadbtest"
)

// mysqlStore is a new database, for --store.
func mysqlStore(t *testing.T, m *mariadbtest.Server) string {
	return "mysql://anybody@/" + m.Database(t) + "?socket=" + m.Socket()
}

// storeCommand runs wheelmq store, which must end with a status and say something.
func storeCommand(t *testing.T, want int, text string, args ...string) string {
	t.Helper()
	code, said := wheelmq(t, append([]string{"store"}, args...)...)
	if code != want || !strings.Contains(said, text) {
		t.Fatalf("wheelmq store %s: status %d, want %d with %q\n%s", strings.Join(args, " "), code, want, text, said)
	}
	return said
}

// keepQueue leaves a session with n messages, and a retained one.
func keepQueue(t *testing.T, b *broker, n int) {
	t.Helper()
	paho5Subscribe(t, b, v5, subscription{clientID: "away", filter: "q/#", qos: 2, keep: true}).disconnect()
	p := paho5Connect(t, b, subscription{clientID: newClientID()})
	for i := range n {
		p.mustPublish(t, publication{topic: "q/1", payload: fmt.Append(nil, i), qos: byte(1 + i%2)})
	}
	p.mustPublish(t, publication{topic: "kept", payload: []byte("retained"), qos: 1, retained: true})
	p.mustDisconnect(t)
}

// expectQueue has the session's client back, which gets n messages in order of each QoS, and no more.
func expectQueue(t *testing.T, b *broker, n int) {
	t.Helper()
	back := paho5Subscribe(t, b, v5, subscription{clientID: "away", filter: "kept", qos: 1, keep: true})
	next, retained := [3]int{1: 0, 2: 1}, false
	for range n + 1 {
		d := back.next(t)
		if d.topic == "kept" {
			retained = d.retained && string(d.payload) == "retained"
			continue
		}
		if string(d.payload) != fmt.Sprint(next[d.qos]) {
			t.Fatalf("got %v, want message %d", d, next[d.qos])
		}
		next[d.qos] += 2
	}
	if !retained {
		t.Error("the retained message is not there")
	}
	paho5Publish(t, b, v5, publication{topic: "q/end", payload: []byte("end"), qos: 1})
	if d := back.next(t); string(d.payload) != "end" {
		t.Errorf("got %v after everything that was queued", d)
	}
	back.disconnect()
}

// TestStores: what a broker keeps is saved while it runs, and moves from one
// kind of store to the next; a client finds its queue in each.
func TestStores(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	t.Parallel()
	const n = 30
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	counted := fmt.Sprintf(`"queued":%d,"retained":1`, n)

	pebble := "pebble:" + at("pebble")
	b := startBroker(t, "--store", pebble)
	keepQueue(t, b, n)
	storeCommand(t, 14, "in use", "check", "--store", pebble)
	storeCommand(t, 0, "copied to", "backup", "--data-dir", at("pebble"), "--to", at("backup"))
	storeCommand(t, 14, "there already", "backup", "--data-dir", at("pebble"), "--to", at("backup"))
	expectQueue(t, b, n)
	b.stop(t)
	storeCommand(t, 0, "copied to", "backup", "--store", pebble, "--to", at("offline"))
	storeCommand(t, 0, "1 retained", "check", "--store", "pebble:"+at("offline"))

	file := at("export")
	storeCommand(t, 0, counted, "stats", "--store", "pebble:"+at("backup"))
	storeCommand(t, 0, "written to", "export", "--store", "pebble:"+at("backup"), "--to", file)
	storeCommand(t, 0, "taken from", "import", "--store", "sqlite:"+at("sqlite"), "--from", file)
	storeCommand(t, 3, "not empty", "import", "--store", "sqlite:"+at("sqlite"), "--from", file)
	dump := storeCommand(t, 0, "", "dump", "--store", "sqlite:"+at("sqlite"))
	for _, text := range []string{`{"session":{"client_id":"away"`, `"filter":"q/#"`, `"state":"queued","message":{"topic":"q/1","payload":"29"`, `{"retained":{"topic":"kept","payload":"retained"`} {
		if !strings.Contains(dump, text) {
			t.Errorf("the dump lacks %s:\n%s", text, dump)
		}
	}
	b = startBroker(t, "--store", "sqlite:"+at("sqlite"))
	storeCommand(t, 14, "in use", "check", "--store", "sqlite:"+at("sqlite"))
	storeCommand(t, 0, "copied to", "backup", "--store", "sqlite:"+at("sqlite"), "--to", at("sqlite2"))
	expectQueue(t, b, n)
	b.stop(t)
	storeCommand(t, 0, "all is well: 1 sessions, 1 subscriptions, 30 messages queued", "check", "--store", "sqlite:"+at("sqlite2"))

	mysql := mysqlStore(t, mariadbtest.Start(t))
	storeCommand(t, 0, "written to", "export", "--store", "sqlite:"+at("sqlite2"), "--to", file+"2")
	storeCommand(t, 0, "taken from", "import", "--store", mysql, "--from", file+"2")
	storeCommand(t, 0, "all is well", "check", "--store", mysql)
	storeCommand(t, 3, "mariadb-dump", "backup", "--store", mysql, "--to", at("none"))
	b = startBroker(t, "--store", mysql)
	storeCommand(t, 14, "in use", "check", "--store", mysql)
	expectQueue(t, b, n)
	b.stop(t)

	storeCommand(t, 14, "no store", "check", "--store", "sqlite:"+at("none"))
	storeCommand(t, 3, "memory", "stats", "--store", "memory")
	storeCommand(t, 1, "--from", "import", "--store", "sqlite:"+at("none"))
	if err := os.Truncate(file, 100); err != nil {
		t.Fatal(err)
	}
	storeCommand(t, 3, "line", "import", "--store", "sqlite:"+at("none"), "--from", file)
	damaged := at("sqlite2")
	f, err := os.OpenFile(damaged, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 64), 3*4096); err != nil { // the head of a page
		t.Fatal(err)
	}
	f.Close()
	if code, said := wheelmq(t, "store", "check", "--store", "sqlite:"+damaged); code != 2 && code != 14 {
		t.Errorf("a damaged file: status %d\n%s", code, said)
	}
}

// TestDatabaseGoesAway kills and stops a broker's MariaDB under clients that publish: what was acknowledged arrives.
func TestDatabaseGoesAway(t *testing.T) {
	if !onlyWheelmq(t) {
		return
	}
	t.Parallel()
	m := mariadbtest.Start(t)
	at := mysqlStore(t, m)
	b := startBroker(t, "--store", at)
	s := paho5Subscribe(t, b, v5, subscription{clientID: "away", filter: "kill/#", qos: 2, keep: true})
	s.disconnect()
	var acknowledged []string
	publish := func(round int, until func(took int, refused bool) bool) {
		t.Helper()
		took, refused := 0, false
		for i, end := 0, time.Now().Add(patience); !until(took, refused); i++ {
			if time.Now().After(end) {
				t.Fatalf("round %d: %d acknowledged, refused %v\n%s", round, took, refused, &b.log)
			}
			c, _, err := paho5TryConnect(t, b, subscription{clientID: "publisher"})
			if err != nil {
				continue
			}
			for j := range 20 {
				payload := fmt.Sprintf("%d/%d/%d", round, i, j)
				code := c.tryPublish(publication{topic: "kill/t", payload: []byte(payload), qos: 1})
				if code < 0 {
					break
				}
				if code == 0 {
					acknowledged = append(acknowledged, payload)
					took++
				} else {
					refused = refused || code == 0x97 // Quota exceeded
				}
				if until(took, refused) {
					break
				}
			}
			_ = c.conn.Close()
		}
	}
	for round, by := range []os.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		publish(round, func(took int, _ bool) bool { return took >= 30 })
		m.Stop(by)
		publish(round+10, func(_ int, refused bool) bool { return refused })
		paho5Publish(t, b, v5, publication{topic: "elsewhere", payload: []byte("not durable"), qos: 1}) // goes on
		m.Restart(t)
	}
	publish(20, func(took int, _ bool) bool { return took >= 30 })
	_ = b.cmd.Process.Kill() // what is in memory does not count
	<-b.ended
	b.stopped = true

	b = startBroker(t, "--store", at)
	arrived := map[string]bool{}
	s = paho5Subscribe(t, b, v5, subscription{clientID: "away", filter: "end", qos: 1, keep: true})
	paho5Publish(t, b, v5, publication{topic: "end", qos: 1})
	for d := s.next(t); d.topic != "end"; d = s.next(t) {
		arrived[string(d.payload)] = true
	}
	for _, payload := range acknowledged {
		if !arrived[payload] {
			t.Errorf("%s was acknowledged and is lost", payload)
		}
	}
	t.Logf("%d acknowledged, %d arrived", len(acknowledged), len(arrived))
	s.disconnect()
}
