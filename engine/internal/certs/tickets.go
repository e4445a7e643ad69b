package certs

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"time"
)

const (
	ticketKeyBytes = 32
	ticketEpoch    = 24 * time.Hour // a key is made for each
	ticketEpochs   = 7              // how many are accepted: crypto/tls takes no ticket that is older
)

// renewTickets gives the configuration the ticket keys of now. They follow from
// the secret and the date, so that all who know the secret, and a process that
// starts again, have the same.
func (l *loaded) renewTickets(now time.Time) {
	epoch := now.Unix() / int64(ticketEpoch/time.Second)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoch == epoch {
		return
	}
	var keys [][32]byte
	for i := range int64(ticketEpochs) {
		key, err := hkdf.Key(sha256.New, l.secret[:], nil, fmt.Sprintf("session tickets %d", epoch-i), ticketKeyBytes)
		if err != nil {
			return // not with these lengths
		}
		keys = append(keys, [32]byte(key))
	}
	l.epoch = epoch
	l.config.SetSessionTicketKeys(keys)
}
