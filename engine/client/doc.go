// Package client is an MQTT client for Go programs: MQTT 5.0, 3.1.1 and 3.1,
// over TCP, TLS, WebSocket and Unix sockets.
//
//	c, err := client.New(client.Options{Servers: []string{"mqtt://127.0.0.1:1883"}})
//	...
//	if err := c.Connect(ctx); err != nil { ... }
//	defer c.Close()
//	_, err = c.Subscribe(ctx, client.Subscription{Filter: "a/#", QoS: 1, Handler: func(m *client.Message) { ... }})
//	_, err = c.Publish(ctx, client.Message{Topic: "a/b", Payload: []byte("x"), QoS: 1})
//
// A [Client] connects again by itself, with growing and jittered pauses, until
// Close or Disconnect. Subscriptions are remembered, and made again when the
// broker has lost the session. What is published meanwhile waits, up to a bound.
// A broker that names another one (Server Reference) is taken at its word, but
// what came by TLS does not go on without.
// Every method may be called from any goroutine; handlers are called one after
// the other, in the order of the messages, on a goroutine of their own, and may
// call every method.
//
// # Delivery
//
// QoS 1 and 2 messages are kept until they are acknowledged, in memory or in a
// [Store] that outlives the program, and are sent again, with DUP, when a
// connection begins (MQTT 5.0 section 4.4). Where the broker has lost the
// session, what was not acknowledged is published anew. A message that arrives
// is acknowledged when its handler returns, or by [Message.Ack].
//
// # Back-pressure
//
// The broker may have Options.ReceiveMaximum messages of QoS 1 and 2 open toward
// the client. Messages of QoS 0 that no handler has taken make the client stop
// reading; while someone waits for an acknowledgement, which only reading can
// bring, they are dropped and counted instead.
//
// # Design
//
// The packets are those of package codec, the windows those of the broker.
// One goroutine reads, one writes, one calls handlers: what many goroutines
// publish while one write is under way leaves in the next. Text of topics that
// arrive again and again is made once.
//
// WebSocket is gobwas/ws's, as in the broker; the file of a [FileStore] is
// bbolt's (go.etcd.io/bbolt), one file that survives a loss of power, kept by the
// etcd project; proxies of the environment are read and, for SOCKS, spoken to by golang.org/x/net.
package client
