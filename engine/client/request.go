package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"

	"github.com/wheelmq/wheelmq/codec"
)

// responses are the requests that await an answer, by their Correlation Data.
type responses struct {
	mu     sync.Mutex
	topic  string // where answers come; "" before the first request
	waits  map[string]chan *Message
	closed error
}

// take gives an answer to who asked. It reports whether m was one.
func (r *responses) take(m *Message) bool {
	if len(m.Correlation) == 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	wait, ok := r.waits[string(m.Correlation)]
	if !ok || m.Topic != r.topic {
		return false
	}
	delete(r.waits, string(m.Correlation))
	wait <- m
	return true
}

func (r *responses) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = err
	for id, wait := range r.waits {
		delete(r.waits, id)
		close(wait)
	}
}

// Request publishes m and waits for the answer (MQTT 5.0 section 4.10): Response
// Topic and Correlation Data are the client's to choose, the rest is m's. ctx
// bounds the wait. Version V5.
func (c *Client) Request(ctx context.Context, m Message) (*Message, error) {
	if c.o.Version != V5 {
		return nil, fmt.Errorf("client: requests are of MQTT 5.0")
	}
	to, err := c.responseTopic(ctx)
	if err != nil {
		return nil, err
	}
	r := &c.response
	id, wait := rand.Text(), make(chan *Message, 1)
	r.mu.Lock()
	if r.closed != nil {
		r.mu.Unlock()
		return nil, r.closed
	}
	if r.waits == nil {
		r.waits = make(map[string]chan *Message)
	}
	r.waits[id] = wait
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.waits, id)
		r.mu.Unlock()
	}()
	m.ResponseTopic, m.Correlation = to, []byte(id)
	if result, err := c.Publish(ctx, m); err != nil {
		return nil, err
	} else if result.Code == codec.NoMatchingSubscribers {
		return nil, &Refused{What: "PUBLISH", Code: result.Code, Reason: "nobody answers there"}
	}
	c.waiters.Add(1)
	defer c.waiters.Add(-1)
	c.arrived.recheck()
	select {
	case answer, ok := <-wait:
		if !ok {
			return nil, ErrClosed
		}
		return answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// responseTopic subscribes to where answers come, once.
func (c *Client) responseTopic(ctx context.Context) (string, error) {
	r := &c.response
	r.mu.Lock()
	to := r.topic
	r.mu.Unlock()
	if to != "" {
		return to, nil
	}
	if err := c.Connected(ctx); err != nil {
		return "", err
	}
	c.mu.Lock()
	to = "wheelmq/response/" + c.clientID + "/" + rand.Text()[:8]
	if c.conn != nil && c.conn.info.ResponseInfo != "" {
		to = c.conn.info.ResponseInfo + "/" + rand.Text()[:8]
	}
	c.mu.Unlock()
	if _, err := c.Subscribe(ctx, Subscription{Filter: to, QoS: 1}); err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.topic == "" {
		r.topic = to
	}
	return r.topic, nil
}

// Respond answers a request that a handler got: to its Response Topic, with its
// Correlation Data. It does not wait.
func (c *Client) Respond(request *Message, answer Message) (*Token, error) {
	if request.ResponseTopic == "" {
		return nil, fmt.Errorf("client: the message asks for no answer")
	}
	answer.Topic, answer.Correlation = request.ResponseTopic, request.Correlation
	return c.PublishAsync(answer)
}

// Reauthenticate begins an enhanced authentication anew on the connection that
// stands (MQTT 5.0 section 4.12.1): for tokens that expire.
func (c *Client) Reauthenticate(ctx context.Context) error {
	if c.o.Auth == nil {
		return fmt.Errorf("client: there is no Authenticator")
	}
	if err := c.Connected(ctx); err != nil {
		return err
	}
	data, err := c.o.Auth.Begin(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cn := c.conn
	switch {
	case cn == nil:
		return ErrLost
	case cn.exchange:
		return fmt.Errorf("client: an authentication is under way")
	}
	cn.exchange = true
	cn.appendAuth(codec.ReAuthenticate, data)
	cn.poke()
	return nil
}
