package limits

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A Ban keeps clients out. Of ClientID, UserName and Address one is set.
type Ban struct {
	ClientID string
	UserName string
	Address  netip.Prefix
	Until    time.Time // zero: without end
	Reason   string    // for the log and for listings
}

// MaxBans bounds the list.
const MaxBans = 20_000

// key is b without what may change.
func (b Ban) key() Ban {
	return Ban{ClientID: b.ClientID, UserName: b.UserName, Address: b.Address.Masked()}
}

// Bans is a list of them. The zero value is empty. Any goroutine.
type Bans struct {
	any  atomic.Bool // there are some
	mu   sync.RWMutex
	all  map[Ban]Ban // by key
	nets map[int]int // number of bans of addresses by length of prefix
}

// Add puts b on the list, in place of one of the same clients. It reports
// false when the list is full.
func (l *Bans) Add(b Ban, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.Address = b.Address.Masked()
	if _, had := l.all[b.key()]; !had && len(l.all) >= MaxBans {
		for k, old := range l.all {
			if old.over(now) {
				l.removeLocked(k)
			}
		}
		if len(l.all) >= MaxBans {
			return false
		}
	}
	l.removeLocked(b.key())
	if l.all == nil {
		l.all, l.nets = map[Ban]Ban{}, map[int]int{}
	}
	l.all[b.key()] = b
	if b.Address.IsValid() {
		l.nets[b.Address.Bits()]++
	}
	l.any.Store(true)
	return true
}

// Remove takes the ban of these clients from the list and reports whether there was one.
func (l *Bans) Remove(b Ban) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.removeLocked(b.key())
}

func (l *Bans) removeLocked(k Ban) bool {
	b, ok := l.all[k]
	if !ok {
		return false
	}
	delete(l.all, k)
	if b.Address.IsValid() {
		bits := b.Address.Bits()
		if l.nets[bits]--; l.nets[bits] == 0 {
			delete(l.nets, bits)
		}
	}
	l.any.Store(len(l.all) > 0)
	return true
}

// List is the list without what is over, in no order.
func (l *Bans) List(now time.Time) []Ban {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var list []Ban
	for _, b := range l.all {
		if !b.over(now) {
			list = append(list, b)
		}
	}
	return list
}

// Any reports whether the list has entries.
func (l *Bans) Any() bool { return l.any.Load() }

// Find returns the ban of a client of this identifier, user name and address;
// "" and nil stand for none.
func (l *Bans) Find(clientID, userName string, from net.Addr, now time.Time) (Ban, bool) {
	if !l.any.Load() {
		return Ban{}, false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if b, ok := l.all[Ban{ClientID: clientID}]; ok && clientID != "" && !b.over(now) {
		return b, true
	}
	if b, ok := l.all[Ban{UserName: userName}]; ok && userName != "" && !b.over(now) {
		return b, true
	}
	at, ok := ipOf(from)
	if !ok {
		return Ban{}, false
	}
	for bits := range l.nets {
		p, err := at.Prefix(bits)
		if err != nil {
			continue // longer than the address
		}
		if b, ok := l.all[Ban{Address: p}]; ok && !b.over(now) {
			return b, true
		}
	}
	return Ban{}, false
}

func (b Ban) over(now time.Time) bool { return !b.Until.IsZero() && !b.Until.After(now) }
