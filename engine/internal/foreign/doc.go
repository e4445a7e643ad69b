// Package foreign holds tests of the broker's listeners with programs of
// others: the clients of Mosquitto, openssl, haproxy, nginx, MQTT.js in Node and
// in Chromium. What they need beside Go, .ci/clients installs.
//
// They run the broker in their own process, so that they can see what a hook is
// told; the tests of cmd/internal/e2e run it as a program.
package foreign
