package engine_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// A retainedTable keeps retained messages in a table of the program's own
// database. Changes are written off the loops, one after the other.
type retainedTable struct {
	db    *sql.DB
	wrote chan error
}

func (t *retainedTable) LoadRetained(ctx context.Context, load func(hook.Publication) error) error {
	if _, err := t.db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS retained (topic TEXT PRIMARY KEY, payload BLOB, qos INTEGER)`); err != nil {
		return err
	}
	rows, err := t.db.QueryContext(ctx, `SELECT topic, payload, qos FROM retained`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var p hook.Publication
		if err := rows.Scan(&p.Topic, &p.Payload, &p.QoS); err != nil {
			return err
		}
		if err := load(p); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (t *retainedTable) EventKinds() hook.EventKind { return hook.EventRetainedChanged }

func (t *retainedTable) HandleEvent(ctx context.Context, e hook.Event) {
	m := e.Message
	var err error
	if e.Gone {
		_, err = t.db.ExecContext(ctx, `DELETE FROM retained WHERE topic = ?`, string(m.Topic))
	} else {
		_, err = t.db.ExecContext(ctx, `INSERT OR REPLACE INTO retained VALUES (?, ?, ?)`, string(m.Topic), m.Payload, int(m.QoS))
	}
	t.wrote <- err
}

// Retained messages in SQLite: loaded at the start, written as they change,
// there again after a restart.
func Example_retainedInSQLite() {
	dir, err := os.MkdirTemp("", "retained")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	run := func(act func(b *engine.Broker, wrote <-chan error)) {
		db, err := sql.Open("sqlite", filepath.Join(dir, "messages.db"))
		if err != nil {
			fmt.Println(err)
			return
		}
		defer db.Close()
		t := &retainedTable{db: db, wrote: make(chan error, 10)}
		b, err := engine.New(engine.Options{Hooks: []any{t}, SysInterval: -1, Listeners: []engine.Listener{{Address: "127.0.0.1:0"}}})
		if err != nil {
			fmt.Println(err)
			return
		}
		if err := b.Start(); err != nil {
			fmt.Println(err)
			return
		}
		act(b, t.wrote)
		if err := b.Stop(context.Background()); err != nil {
			fmt.Println(err)
		}
	}
	run(func(b *engine.Broker, wrote <-chan error) {
		for _, m := range []engine.Message{
			{Topic: "lamp", Payload: []byte("off"), Retain: true}, {Topic: "lamp", Payload: []byte("on"), QoS: codec.QoS(1), Retain: true},
			{Topic: "door", Payload: []byte("open"), Retain: true}, {Topic: "door", Retain: true},
		} {
			if _, err := b.Publish(context.Background(), m); err != nil {
				fmt.Println(err)
			}
			if err := <-wrote; err != nil {
				fmt.Println(err)
			}
		}
	})
	run(func(b *engine.Broker, _ <-chan error) {
		b.RetainedMessages("#", func(m engine.Message) bool {
			fmt.Printf("%s is %s, QoS %d\n", m.Topic, m.Payload, m.QoS)
			return true
		})
	})
	// Output: lamp is on, QoS 1
}
