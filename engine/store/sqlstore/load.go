package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/store"
)

// queuePage is how many deliveries are asked for at once: who stops in between
// leaves no more behind.
const queuePage = 256

// Load implements store.Store: retained messages and queues beside ranges of
// sessions, as many as there are processors.
func (s *Store) Load(ctx context.Context, l store.Loader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	bounds, err := s.ranges(ctx, runtime.GOMAXPROCS(0))
	if err != nil {
		return s.cannot(err)
	}
	errs := make([]error, len(bounds)+1)
	var wait sync.WaitGroup
	for i := range errs {
		wait.Go(func() {
			switch i {
			case len(bounds):
				errs[i] = s.loadQueues(ctx, l)
			case len(bounds) - 1:
				errs[i] = s.loadRetained(ctx, l)
			default:
				errs[i] = s.loadSessions(ctx, bounds[i], bounds[i+1], l)
			}
			if errs[i] != nil {
				cancel()
			}
		})
	}
	wait.Wait()
	return s.cannot(errors.Join(errs...))
}

func (s *Store) cannot(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("sqlstore: %s: %w", s.name, s.suspect(err))
}

// ranges are bounds of identifiers with about as many sessions between two
// neighbours each.
func (s *Store) ranges(ctx context.Context, n int) ([]int64, error) {
	var count int64
	if err := s.bulk.QueryRowContext(ctx, "SELECT COUNT(*) FROM sessions").Scan(&count); err != nil {
		return nil, err
	}
	bounds := []int64{0}
	for i := range int64(n - 1) {
		var id int64
		at := count * (i + 1) / int64(n)
		if err := s.bulk.QueryRowContext(ctx, "SELECT id FROM sessions ORDER BY id LIMIT 1 OFFSET ?", at).Scan(&id); err != nil {
			if errors.Is(err, sql.ErrNoRows) {
				break
			}
			return nil, err
		}
		if id > bounds[len(bounds)-1] {
			bounds = append(bounds, id)
		}
	}
	return append(bounds, 1<<62), nil
}

// loadQueues measures the queues, which are read when they are wanted.
func (s *Store) loadQueues(ctx context.Context, l store.Loader) error {
	rows, err := s.bulk.QueryContext(ctx, "SELECT session_id, COUNT(*), SUM(size), MIN(position) FROM deliveries WHERE state = 0 GROUP BY session_id")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, first int64
		var q store.Extent
		if err := rows.Scan(&id, &q.Messages, &q.Bytes, &first); err != nil {
			return err
		}
		q.First = store.Position(first)
		l.Queue(store.SessionID(id), q)
	}
	return rows.Err()
}

func (s *Store) loadRetained(ctx context.Context, l store.Loader) error {
	rows, err := s.bulk.QueryContext(ctx, "SELECT "+messageColumns+" FROM retained")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var m row
		if err := rows.Scan(m.into()...); err != nil {
			l.Damaged("a retained message", err)
			continue
		}
		r, err := m.message()
		if err != nil {
			l.Damaged(fmt.Sprintf("retained message %q", m.topic), err)
			continue
		}
		l.Retained(&r)
	}
	return rows.Err()
}

// A row is a message's, as it is read. NULL, where there is none, is empty.
type row struct {
	topic, payload, publisher, properties []byte
	qos, retain, expires                  sql.NullInt64
}

// into is where messageColumns are read to.
func (m *row) into() []any {
	return []any{&m.topic, &m.payload, &m.qos, &m.retain, &m.expires, &m.publisher, &m.properties}
}

func (m *row) message() (store.Message, error) {
	if !m.qos.Valid {
		return store.Message{}, fmt.Errorf("%w: a message is missing", store.ErrRecord)
	}
	if m.qos.Int64 < 0 || m.qos.Int64 > 2 {
		return store.Message{}, fmt.Errorf("%w: QoS %d", store.ErrRecord, m.qos.Int64)
	}
	return store.Message{Topic: m.topic, Payload: m.payload, Properties: codec.Properties(m.properties), Publisher: string(m.publisher),
		Expires: m.expires.Int64, QoS: codec.QoS(m.qos.Int64), Retained: m.retain.Int64 != 0}, nil
}

// A sent is a delivery's row with its message, as it is read.
type sent struct {
	position, message, state, qos, retain, packet, shared, size int64
	ids                                                         string
	row
}

const sentColumns = "position, message_id, state, deliveries.qos, deliveries.retain, packet_id, subscription_ids, shared, size, " +
	"topic, payload, messages.qos, messages.retain, expires, publisher, properties " +
	"FROM deliveries LEFT JOIN messages ON messages.id = message_id"

func (e *sent) into() []any {
	return append([]any{&e.position, &e.message, &e.state, &e.qos, &e.retain, &e.packet, &e.ids, &e.shared, &e.size}, e.row.into()...)
}

func (e *sent) delivery() (store.Delivery, store.Message, error) {
	d := store.Delivery{Message: store.MessageID(e.message), QoS: codec.QoS(e.qos), Retain: e.retain != 0, State: store.State(e.state),
		PacketID: uint16(e.packet), Shared: e.shared != 0, Size: uint32(e.size)}
	if e.qos < 1 || e.qos > 2 || e.state < 0 || e.state > int64(store.AwaitPubcomp) || e.packet < 0 || e.packet > 0xFFFF || e.size < 0 || e.size > 0xFFFFFFFF ||
		(e.packet == 0) != (d.State == store.Queued) || (e.message == 0) != (d.State == store.AwaitPubcomp) {
		return d, store.Message{}, fmt.Errorf("%w: delivery at %d", store.ErrRecord, e.position)
	}
	if e.ids != "" {
		for text := range strings.SplitSeq(e.ids, ",") {
			id, err := strconv.ParseUint(text, 10, 32)
			if err != nil {
				return d, store.Message{}, fmt.Errorf("%w: subscription_ids %q", store.ErrRecord, e.ids)
			}
			d.IDs = append(d.IDs, uint32(id))
		}
	}
	if d.State == store.AwaitPubcomp {
		return d, store.Message{}, nil
	}
	m, err := e.row.message()
	return d, m, err
}

// ReadQueue implements store.Store. A delivery that is damaged, or whose
// message is, is passed over and logged.
func (s *Store) ReadQueue(id store.SessionID, behind store.Position, f func(store.Position, *store.Delivery, *store.Message) bool) error {
	for {
		n, more := 0, true
		rows, err := s.bulk.Query("SELECT "+sentColumns+" WHERE session_id = ? AND position > ? AND state = 0 ORDER BY position LIMIT ?",
			int64(id), int64(behind), queuePage)
		if err != nil {
			return fmt.Errorf("sqlstore: %s: %w: %w", s.name, store.ErrUnavailable, err)
		}
		for more && rows.Next() {
			n++
			var e sent
			if err = rows.Scan(e.into()...); err != nil {
				break
			}
			behind = store.Position(e.position)
			d, m, damaged := e.delivery()
			if damaged != nil {
				s.opts.Logger.Error("store: a queued message is damaged", "database", s.name, "session", uint64(id), "error", damaged)
				continue
			}
			more = f(behind, &d, &m)
		}
		if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
			return fmt.Errorf("sqlstore: %s: %w: %w", s.name, store.ErrUnavailable, err)
		}
		if !more || n < queuePage {
			return nil
		}
	}
}

// A cursor goes through rows that begin with their session's identifier, in the
// order of these, beside the rows of sessions.
type cursor struct {
	rows *sql.Rows
	scan func(rows *sql.Rows, id *int64) error // a row
	id   int64
	bad  error // of this row
	ok   bool  // there is one
}

func (c *cursor) next() {
	if c.ok = c.rows.Next(); c.ok {
		c.bad = c.scan(c.rows, &c.id)
	}
}

// of calls take for each row of session id. Rows of sessions before it, which
// are not there, are passed over.
func (c *cursor) of(id int64, take func(damaged error)) {
	for c.ok && c.id <= id {
		if c.id == id {
			take(c.bad)
		}
		c.next()
	}
}

// A reader goes through sessions and what belongs to them.
type reader struct {
	s       *Store
	cursors []*cursor
}

func (r *reader) open(ctx context.Context, text string, from, to int64, scan func(*sql.Rows, *int64) error) (*cursor, error) {
	rows, err := r.s.bulk.QueryContext(ctx, text, from, to)
	if err != nil {
		return nil, err
	}
	c := &cursor{rows: rows, scan: scan}
	r.cursors = append(r.cursors, c)
	c.next()
	return c, nil
}

func (r *reader) close() (err error) {
	for _, c := range r.cursors {
		err = errors.Join(err, c.rows.Err(), c.rows.Close())
	}
	return err
}

// loadSessions hands over the sessions from one identifier up to before another.
func (s *Store) loadSessions(ctx context.Context, from, to int64, l store.Loader) (err error) {
	r := &reader{s: s}
	defer func() { err = errors.Join(err, r.close()) }()
	var (
		filter              []byte
		options, identifier int64
		packet              int64
		flight              sent
	)
	const between = " WHERE session_id >= ? AND session_id < ? "
	subscriptions, err := r.open(ctx, "SELECT session_id, filter, options, identifier FROM subscriptions"+between+"ORDER BY session_id", from, to,
		func(rows *sql.Rows, id *int64) error { return rows.Scan(id, &filter, &options, &identifier) })
	if err != nil {
		return err
	}
	received, err := r.open(ctx, "SELECT session_id, packet_id FROM received"+between+"ORDER BY session_id, packet_id", from, to,
		func(rows *sql.Rows, id *int64) error { return rows.Scan(id, &packet) })
	if err != nil {
		return err
	}
	inFlight, err := r.open(ctx, "SELECT session_id, "+sentColumns+between+"AND state <> 0 ORDER BY session_id, position", from, to,
		func(rows *sql.Rows, id *int64) error {
			flight = sent{}
			return rows.Scan(append([]any{id}, flight.into()...)...)
		})
	if err != nil {
		return err
	}
	rows, err := s.bulk.QueryContext(ctx, selectSessions, from, to)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		id, loaded, err := scanSession(rows)
		if err != nil {
			l.Damaged(fmt.Sprintf("session %d", id), err)
			continue
		}
		damaged := func(what string, err error) bool {
			if err != nil {
				l.Damaged(fmt.Sprintf("session %d of %q, %s", id, loaded.ClientID, what), err)
			}
			return err != nil
		}
		subscriptions.of(id, func(bad error) {
			if !damaged("a subscription", bad) {
				loaded.Subscriptions = append(loaded.Subscriptions,
					store.Subscription{Filter: string(filter), Options: byte(options), Identifier: uint32(identifier)})
			}
		})
		received.of(id, func(bad error) {
			if !damaged("a packet identifier", bad) {
				loaded.Received = append(loaded.Received, uint16(packet))
			}
		})
		inFlight.of(id, func(bad error) {
			d, m, err := flight.delivery()
			if !damaged("a message in flight", errors.Join(bad, err)) {
				loaded.InFlight = append(loaded.InFlight, store.InFlight{Position: store.Position(flight.position), Delivery: d, Message: m})
			}
		})
		l.Session(store.SessionID(id), loaded)
	}
	return rows.Err()
}

const selectSessions = "SELECT id, client_id, user_name, expiry, ends_at, will, will_delay, will_expiry, will_at, will_topic, will_payload, " +
	"will_qos, will_retain, will_expires, will_publisher, will_properties FROM sessions WHERE id >= ? AND id < ? ORDER BY id"

func scanSession(rows *sql.Rows) (int64, *store.Loaded, error) {
	var (
		id, expiry, will, delay, willExpiry, willAt int64
		clientID, userName                          []byte
		m                                           row
		l                                           store.Loaded
	)
	err := rows.Scan(append([]any{&id, &clientID, &userName, &expiry, &l.EndsAt, &will, &delay, &willExpiry, &willAt}, m.into()...)...)
	if err != nil {
		return id, nil, err
	}
	l.ClientID, l.UserName, l.Expiry = string(clientID), string(userName), uint32(expiry)
	if will != 0 {
		w := &store.Will{Delay: uint32(delay), Expiry: uint32(willExpiry), HasExpiry: will == 2, At: willAt}
		if w.Message, err = m.message(); err != nil {
			return id, nil, err
		}
		l.Will = w
	}
	return id, &l, nil
}
