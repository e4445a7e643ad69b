// Package config reads configuration files into the engine's options.
//
// The native one is YAML: [File] has every key. Where each value came from, a
// line of the file or a variable of the environment, is in [Native]. A key is
// added in one place, as a field of File or of what is below it, with its name,
// what people read about it and its bounds in the tag; reader, environment,
// schema, show and init follow. What it means to the engine stands in
// File.Options, and the way back in File.take. After a change the schema is
// written anew: go run ./cmd/wheelmq config schema.
//
// The other is mosquitto.conf, unchanged: every directive of Mosquitto 2.0 and
// 2.1 is applied, approximated, without effect here, for later, or refused, and
// [Mosquitto].Findings says which and why. Mosquitto.Native is the same as a
// native file.
//
// A file with something that cannot be read gives errors with file and line,
// all of them at once, and no options.
//
// # Design
//
// YAML is parsed by go.yaml.in/yaml/v3, the maintained one of the YAML
// organization, into nodes that know their lines; the walk over them is ours,
// since its decoder tells neither lines of unknown keys nor what may have been
// meant. The grammar of mosquitto.conf is a line of a word and the rest of the
// line, so there is nothing that a library would parse better. What a directive
// means stands in one table (directives.go), which the tests hold against the
// list of all directives.
package config
