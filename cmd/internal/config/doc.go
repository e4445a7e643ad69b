// Package config reads configuration files into the engine's options.
//
// So far it reads mosquitto.conf, unchanged: every directive of Mosquitto 2.0
// and 2.1 is applied, approximated, without effect here, for later, or refused,
// and [Findings] says which and why. A file with a directive that is refused, or
// with a value that cannot be read, gives errors with file and line, all of them
// at once, and no options.
//
// # Design
//
// The grammar is a line of a word and the rest of the line, so there is nothing
// that a library would parse better. What a directive means stands in one table
// (directives.go), which the tests hold against the list of all directives.
package config
