package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/internal/inflight"
)

// awaitSuback marks the packet identifiers of SUBSCRIBE and UNSUBSCRIBE in the window.
const awaitSuback inflight.State = 100

// A Client is one MQTT client.
type Client struct {
	o       Options
	servers []server

	mu       sync.Mutex
	started  bool
	closed   bool
	final    error // why the client has ended
	conn     *conn // nil while there is none
	clientID string
	clean    bool // of the next CONNECT
	window   inflight.Window[*outgoing]
	open     int // QoS 1 and 2 in the window
	received inflight.IDSet
	queue    []*outgoing // to be sent, in order
	subs     []*subscription
	nextSub  uint32
	changes  []Change // for the store, before the next write
	order    uint64   // of the last message that was kept
	redirect *server  // of a Server Reference; nil: none

	room   chan struct{} // closed and replaced when something changed that somebody waits for
	await  bool          // somebody does
	ended  chan struct{} // closed when the client has ended
	cancel context.CancelFunc
	first  chan error // result of the first connect; nil once it was given

	saving   sync.Mutex // held while the store takes changes, so that it takes them in their order
	arrived  arrived
	waiters  atomic.Int32 // goroutines that wait for an acknowledgement
	response responses
}

// outgoing is one packet that awaits its acknowledgement, or its turn.
type outgoing struct {
	what     string
	data     []byte // topic, properties and payload, one behind the other
	topicLen int
	propsLen int
	qos      codec.QoS
	retain   bool
	expires  time.Time // zero: never
	tried    bool      // was sent on some connection
	sent     time.Time // when that was last, with RetryDelay
	repeats  int       // on this connection, with RetryDelay
	order    uint64    // in the store
	token    *Token

	packet []byte // of SUBSCRIBE and UNSUBSCRIBE, whose identifier is known when it is sent
	codes  func([]codec.ReasonCode, codec.Properties)
}

func (g *outgoing) topic() []byte { return g.data[:g.topicLen] }
func (g *outgoing) properties() codec.Properties {
	return codec.Properties(g.data[g.topicLen : g.topicLen+g.propsLen])
}
func (g *outgoing) payload() []byte { return g.data[g.topicLen+g.propsLen:] }

// A Token is the outcome of a publication that is under way.
type Token struct {
	done   chan struct{}
	result Result
	err    error
}

// Result is what the broker said of a message.
type Result struct {
	PacketID   uint16           // 0 at QoS 0
	Code       codec.ReasonCode // Success, or NoMatchingSubscribers where the broker tells
	Properties []Property
}

func newToken() *Token { return &Token{done: make(chan struct{})} }

func (t *Token) settle(r Result, err error) {
	if t == nil {
		return
	}
	t.result, t.err = r, err
	close(t.done)
}

// Done is closed when the outcome is known.
func (t *Token) Done() <-chan struct{} { return t.done }

// Result is the outcome, once Done is closed. An error that is a [Refused] came
// from the broker.
func (t *Token) Result() (Result, error) { return t.result, t.err }

// Wait waits for the outcome.
func (t *Token) Wait(ctx context.Context) (Result, error) {
	select {
	case <-t.done:
		return t.result, t.err
	default:
	}
	select {
	case <-t.done:
		return t.result, t.err
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

// New checks the options and reads what the store kept. It does not connect.
func New(o Options) (*Client, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	c := &Client{o: o.withDefaults(), clientID: o.ClientID, clean: o.CleanStart, room: make(chan struct{}), ended: make(chan struct{})}
	for _, s := range c.o.Servers {
		parsed, err := parseServer(s)
		if err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		c.servers = append(c.servers, parsed)
	}
	if c.clientID == "" && c.o.Version != V5 {
		c.clientID = "wheelmq-" + rand.Text()[:12]
	}
	c.arrived.wake = make(chan struct{}, 1)
	if c.o.Store != nil {
		if err := c.restore(); err != nil {
			return nil, fmt.Errorf("client: store: %w", err)
		}
	}
	return c, nil
}

// Connect connects, and keeps connected until Close or Disconnect. It returns
// when the first connection stands, or failed; with Options.FirstMayFail it goes
// on trying until ctx ends, and in the background after that. A further call
// returns at once where the client is connected already.
func (c *Client) Connect(ctx context.Context) error {
	c.mu.Lock()
	switch {
	case c.closed:
		defer c.mu.Unlock()
		return c.closedError()
	case c.started:
		online := c.conn != nil
		c.mu.Unlock()
		if online {
			return nil
		}
		return c.awaitOnline(ctx)
	}
	c.started = true
	life, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	first := make(chan error, 1)
	c.first = first
	c.mu.Unlock()
	go c.deliver()
	go c.run(life)
	select {
	case err := <-first:
		return err
	case <-ctx.Done():
		if !c.o.FirstMayFail {
			c.end(ctx.Err())
		}
		return ctx.Err()
	}
}

// awaitOnline waits until there is a connection.
func (c *Client) awaitOnline(ctx context.Context) error {
	for {
		c.mu.Lock()
		online, room := c.conn != nil, c.turn()
		err := c.closedError()
		c.mu.Unlock()
		if online || err != nil {
			return err
		}
		select {
		case <-room:
		case <-c.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// closedError is why nothing is taken any more; nil while something is. Under mu.
func (c *Client) closedError() error {
	switch {
	case !c.closed:
		return nil
	case c.final != nil:
		return c.final
	default:
		return ErrClosed
	}
}

// Run connects, whether the first attempt fails or not, and disconnects when ctx
// ends. It returns nil then, and otherwise why the client has ended.
func (c *Client) Run(ctx context.Context) error {
	c.o.FirstMayFail = true
	if err := c.Connect(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	select {
	case <-ctx.Done():
		within, cancel := context.WithTimeout(context.Background(), c.o.Timeout)
		defer cancel()
		return c.Disconnect(within)
	case <-c.ended:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.closedError()
	}
}

// IsConnected reports whether there is a connection at this moment.
func (c *Client) IsConnected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn != nil
}

// ClientID is the client identifier; "" until the broker has assigned one.
func (c *Client) ClientID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clientID
}

// Pending is how many messages of QoS 1 and 2 await their acknowledgement, and
// how many of any QoS wait to be sent.
func (c *Client) Pending() (inflight, queued int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, len(c.queue)
}

// Disconnect sends what was published, waits for acknowledgements, says
// DISCONNECT and ends the client. When ctx ends it goes without waiting.
func (c *Client) Disconnect(ctx context.Context) error { return c.DisconnectWith(ctx, 0) }

// DisconnectWith is Disconnect with a Reason Code: DisconnectWithWillMessage
// (0x04) has the will published.
func (c *Client) DisconnectWith(ctx context.Context, code codec.ReasonCode) error {
	waited := c.awaitIdle(ctx)
	c.mu.Lock()
	if cn := c.conn; cn != nil {
		d := codec.Disconnect{Code: code}
		if c.o.Version == V31 || c.o.Version == V311 {
			d.Code = 0
		}
		cn.out = d.Append(cn.out, c.o.Version)
		cn.leaving = true
		cn.poke()
		c.mu.Unlock()
		select {
		case <-cn.gone:
		case <-time.After(c.o.Timeout):
		case <-ctx.Done():
		}
	} else {
		c.mu.Unlock()
	}
	c.end(nil)
	if waited != nil && !errors.Is(waited, ErrClosed) {
		return waited
	}
	return nil
}

// awaitIdle waits until nothing is queued or in flight.
func (c *Client) awaitIdle(ctx context.Context) error {
	for {
		c.mu.Lock()
		idle, room, err := c.open == 0 && len(c.queue) == 0 && (c.conn == nil || c.conn.idle()), c.turn(), c.closedError()
		online := c.conn != nil
		c.mu.Unlock()
		if idle || err != nil || !online {
			return err
		}
		select {
		case <-room:
		case <-c.ended:
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond): // the output has no signal of its own
		}
	}
}

// Close ends the client at once, without DISCONNECT: the broker publishes the
// will, and keeps the session for as long as it lasts.
func (c *Client) Close() { c.end(nil) }

// end ends the client for good; err is why, nil when it was asked to.
func (c *Client) end(err error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		<-c.ended
		return
	}
	c.closed, c.final = true, err
	cn, cancel, started := c.conn, c.cancel, c.started
	c.conn = nil
	var lost []*outgoing
	lost = append(lost, c.queue...)
	c.queue = nil
	for _, e := range c.window.Ordered(nil) {
		lost = append(lost, e.Value)
		if e.State == awaitSuback {
			c.window.Remove(e.PacketID) // it is failed here, not by the end of the connection
		}
	}
	reason := c.closedError()
	c.signal()
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	if cn != nil {
		cn.close(reason)
		<-cn.gone
	}
	for _, g := range lost {
		g.fail(reason)
	}
	c.response.fail(reason)
	if !started {
		c.mu.Lock()
		c.started = true
		c.mu.Unlock()
	}
	if c.o.Store != nil {
		if err := c.save(); err != nil {
			c.o.Logger.Error("the store did not take the last changes", "error", err)
		}
		if err := c.o.Store.Close(); err != nil {
			c.o.Logger.Error("closing the store", "error", err)
		}
	}
	c.arrived.close()
	close(c.ended)
}

// fail tells who waits for g.
func (g *outgoing) fail(err error) {
	if g.codes != nil {
		g.codes(nil, nil)
	}
	g.token.settle(Result{}, err)
}

// turn is closed when something changes: a connection, room. Under mu.
func (c *Client) turn() <-chan struct{} {
	c.await = true
	return c.room
}

// signal wakes who waits for a turn. Under mu.
func (c *Client) signal() {
	if c.await {
		close(c.room)
		c.room, c.await = make(chan struct{}), false
	}
}
