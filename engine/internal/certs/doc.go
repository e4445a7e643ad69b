// Package certs loads what TLS needs, all of it together: certificates with
// their keys, the authorities that sign clients' certificates, and the lists of
// those that are revoked. A [Set] is replaced as a whole or not at all.
//
// It is a package of its own for that invariant, and because it does no network
// I/O: transport asks it for the configuration of each handshake.
package certs
