// Package enginetest puts a broker inside a test, and scripted clients beside
// it, for people who test programs that use MQTT.
//
//	b := enginetest.Start(t, engine.Options{})
//	c := b.Connect(t, "watcher", enginetest.V5)
//	c.Subscribe("house/#", 1)
//	program(b.Address())            // under test, connects by itself
//	c.ExpectPublish("house/door", "open")
//
// The broker listens on a free loopback port and stops with the test. A client
// is on a real connection and does nothing by itself: no ping, no
// acknowledgement, no reconnect. So a test sees each packet, and can be as rude
// as it likes. What does not come in time, or is something else, ends the test
// with both sides of the comparison.
//
// Functions are for the test's goroutine.
package enginetest
