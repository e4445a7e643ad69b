// Package compare is the command wheelmq bench compare: it measures MQTT brokers side by side with package
// load, Mosquitto as the reference, WheelMQ, and whichever others are given a start command.
//
//	wheelmq bench compare                                     all scenarios, Mosquitto and WheelMQ
//	wheelmq bench compare -scenario fanin-100-1 -loops 1,2   one scenario, WheelMQ with one and two loops
//	wheelmq bench compare -builtin mosquitto -smoke          does the tool work here
//	wheelmq bench compare -brokers brokers.toml -json figures.json -report page.html
//
// One broker is alive at a time, a fresh process for each run, in the order A B A B; a repeat is one
// run of each. Figures are medians of the repeats with their range. A ratio is taken inside a repeat
// and then the median of the ratios: what disturbs the machine for minutes disturbs both sides.
// A run that failed, or lost, doubled or reordered a message, is printed before anything else, and
// the exit status is 1. A missed target does not change the exit status: it is a figure.
//
// # Settings
//
// No broker is crippled: one listener on loopback, anonymous clients, no log, no delay of small segments (TCP_NODELAY), no
// bound on queues and windows that the workload could reach, the file limit raised to the hard one. A scenario runs in one
// mode: on TCP, TLS or WebSocket in memory, or on TCP with persistence on; a broker that has no setup for a mode has no figures
// there. brokers.toml shows how further brokers are named. All command lines and configurations are part of the JSON and of the page.
//
// # Design
//
// Ratios of CPU time decide, not messages per second: the generator needs a core of its own, and a
// broker that batches can outrun it. From three cores on broker and generator are pinned to cores of their own. With two they are
// not: it would take the second one away from a broker with two loops, and on a noisy machine the kernel's choice is the better
// one more often than not. The report says which it was. The column "other" says how noisy it was: the share of one core that
// everything else used.
//
// The file of brokers is TOML (github.com/BurntSushi/toml): it has texts of several lines, in which a broker's own configuration
// stays as it is, and tells what it does not know.
package compare
