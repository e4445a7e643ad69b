// Package message holds the application message: the one copy of topic,
// properties and payload that is made when a message outlives the read it came
// in, shared by every recipient on every loop and counted.
//
// # Design
//
// A message and its buffer are one pooled object, by size class (powers of two and the sizes half way
// from 128 bytes to 1 MiB), so that the hot path takes one list operation a
// message and no allocation. The lists belong to the loops and exchange batches
// of 64: sync.Pool cost twice as much and allocated when goroutines changed
// processors. What is kept for long is made to measure and left
// to the collector. Encoded frames are not cached here: appending header, topic
// and payload for each recipient costs about as much as copying a ready frame,
// and each v5 recipient may differ.
package message
