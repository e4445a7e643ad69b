package remote

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"
)

// A Cache remembers answers for a time, by secrets that it does not keep: its
// keys are keyed hashes. When it is full it begins anew. Any goroutine.
type Cache[T any] struct {
	size int
	key  [sha256.Size]byte

	mu      sync.Mutex
	entries map[[sha256.Size]byte]cached[T]
}

type cached[T any] struct {
	value T
	at    time.Time
}

// NewCache returns a cache of up to size answers.
func NewCache[T any](size int) *Cache[T] {
	c := &Cache[T]{size: size, entries: make(map[[sha256.Size]byte]cached[T])}
	_, _ = rand.Read(c.key[:]) // never fails
	return c
}

// Key is what stands for the parts, in this order.
func (c *Cache[T]) Key(parts ...string) (k [sha256.Size]byte) {
	mac := hmac.New(sha256.New, c.key[:])
	for _, p := range parts {
		n := len(p)
		mac.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		mac.Write([]byte(p))
	}
	mac.Sum(k[:0])
	return k
}

// Get returns what was put for k, and how long ago.
func (c *Cache[T]) Get(k [sha256.Size]byte) (value T, age time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[k]
	return e.value, time.Since(e.at), ok
}

// Put remembers value.
func (c *Cache[T]) Put(k [sha256.Size]byte, value T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= c.size {
		clear(c.entries)
	}
	c.entries[k] = cached[T]{value, time.Now()}
}

// Delete forgets k.
func (c *Cache[T]) Delete(k [sha256.Size]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, k)
}
