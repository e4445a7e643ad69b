// Package e2e drives the real broker, as a process, with MQTT clients that nobody here wrote: mosquitto_pub and
// mosquitto_sub, Eclipse Paho for Go (paho.mqtt.golang for MQTT 3.1 and 3.1.1, paho.golang for 5.0) and MQTT.js. It has
// tests only; nothing imports it.
//
// The tests build the broker once, start it on free loopback ports and end every process by its identifier. Each wait is
// bounded by patience. A foreign client that is missing is a failure which names the command that installs it
// (make clients), never a skip: a green run means that all of them were asked.
//
// Environment:
//
//	WHEELMQ_E2E_BUILD     further arguments of go build for the broker, such as -race
//	WHEELMQ_E2E_MQTTJS    folder whose node_modules has MQTT.js; default: wheelmq/mqttjs in the user's cache folder
//	WHEELMQ_E2E_BROKER    another broker to test instead, with {port} where its port goes, for example
//	                      "mosquitto -p {port}"; tests of the wheelmq command itself then do nothing
//
// # Design
//
// Every client is one value of type foreign with two functions, subscribe and publish, so that a test is written once and
// runs for every client and version. Who publishes to whom is a full matrix, but not a process per pair: all subscribers
// listen at once and each publication reaches all of them. 27 subscribers and 27 publications cover 729 combinations of
// client, version and QoS on either side within seconds.
//
// WHEELMQ_E2E_BROKER exists to test the tests: what fails here but passes against another broker is our mistake, what
// fails against both is most likely the test's.
package e2e
