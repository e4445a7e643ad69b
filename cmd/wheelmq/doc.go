// Command wheelmq is the MQTT broker and, as sub-commands come, its tools.
//
// Without a sub-command it runs the broker: it turns flags into engine.Options, starts the engine, says in a few lines
// what is open and to whom, and waits for a signal. Everything that touches the process as a whole lives here and
// nowhere else: flags, the file limit, GOMAXPROCS, signals, the exit status. The engine is told, it never asks.
//
// The first INT or TERM stops the broker cleanly, which takes at most [stopTimeout]; a second one ends the process at
// once, by the signal's default action, so that it works even when everything else hangs.
//
// Exit status, as users of Mosquitto know it:
//
//	0   stopped cleanly
//	1   usage: an unknown flag, a value that cannot be read
//	2   what was to be tested is not as expected
//	3   bad configuration: each value can be read, what they ask for together is refused
//	14  system error: the port is in use, a name does not resolve, the file limit is too low
//
// # Design
//
// Safe by default: without flags only programs on this machine can connect. An address that others can reach needs
// --allow-anonymous as well, until listeners have authentication, so that nobody opens a broker by accident. Names are
// resolved here, once, and the engine gets literal addresses: what was checked for loopback is what is opened.
//
// A host name is opened on every address that it resolves to; the first one only, as net.Listen does, would leave
// localhost without ::1. An empty host is every address of both families.
//
// What stands at start goes to standard output as text for people, or as log records with --log-format json, where a
// program reads along. Log lines go to standard error.
package main
