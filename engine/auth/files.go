package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// Options say where users and rights come from.
type Options struct {
	PasswordFile string // "": no user is known, none is refused by password
	ACLFile      string // "": who comes in may do everything

	// HashesBusy is told when passwords begin to be hashed, and when none was for
	// a second: time for one more processor. It must not block. May be nil.
	HashesBusy func(bool)
}

// Files is a hook.Decider on a password file and an ACL file. Any goroutine.
type Files struct {
	options Options
	key     [sha256.Size]byte // of remembered passwords; of this process
	dummy   *Hash             // hashed for users that do not exist, to take as long
	hashing *hashing

	current atomic.Pointer[state]
}

// state is what the files said when they were read. Immutable but for right.
type state struct {
	passwords *Passwords // nil: none
	acl       *ACL       // nil: none

	mu    sync.Mutex
	right map[string][sha256.Size]byte // passwords that were right, by user
}

// rememberedUsers bounds state.right; when it is full it begins anew.
const rememberedUsers = 100_000

// Open reads the files.
func Open(o Options) (*Files, error) {
	if o.PasswordFile == "" && o.ACLFile == "" {
		return nil, errors.New("auth: neither a password file nor an ACL file is named")
	}
	f := &Files{options: o, hashing: newHashing(o.HashesBusy)}
	_, _ = rand.Read(f.key[:]) // never fails
	s, err := o.load()
	if err != nil {
		return nil, err
	}
	if f.dummy, err = dummyFor(s.passwords); err != nil {
		return nil, err
	}
	f.current.Store(s)
	return f, nil
}

func (o Options) load() (*state, error) {
	s := &state{right: make(map[string][sha256.Size]byte)}
	var errs [2]error
	if o.PasswordFile != "" {
		s.passwords, errs[0] = ReadPasswords(o.PasswordFile)
	}
	if o.ACLFile != "" {
		s.acl, errs[1] = ReadACL(o.ACLFile)
	}
	return s, errors.Join(errs[:]...)
}

// dummyFor returns a hash that takes as long to compare as those of p.
func dummyFor(p *Passwords) (*Hash, error) {
	if p != nil {
		for _, h := range p.byUser {
			like := *h
			like.sum = make([]byte, len(h.sum)) // matches nothing that anybody finds
			return &like, nil
		}
	}
	return NewHash(SHA512, "")
}

// Decide implements hook.Decider. Without a password file it has no opinion on
// who comes in, and only gives rights where it is known that the client does.
func (f *Files) Decide(ctx context.Context, c *hook.Connect) (hook.Decision, error) {
	s := f.current.Load()
	proved := true
	if s.passwords != nil && c.HasUserName && !c.Identified {
		var err error
		proved, err = f.proves(ctx, s, addressOf(c.RemoteAddr), c.UserName, c.Password)
		if errors.Is(err, errCrowded) {
			return hook.Decision{Verdict: hook.Refuse, Code: codec.ServerBusy, Reason: "too many passwords wait to be looked at"}, nil
		}
		if err != nil {
			return hook.Decision{}, err
		}
	}
	switch {
	case !c.HasUserName && !c.Identified:
		if !c.Anonymous {
			return hook.Decision{Verdict: hook.Refuse, Code: codec.NotAuthorized, Reason: "a user name is needed"}, nil
		}
	case !proved:
		return hook.Decision{Verdict: hook.Refuse, Code: codec.BadUserNameOrPassword, Reason: "bad user name or password"}, nil
	case s.passwords == nil && !c.Identified && !c.Anonymous:
		return hook.Decision{}, nil
	}
	d := hook.Decision{Verdict: hook.Accept}
	if s.acl != nil {
		d.Rights = f.rights(s, c.UserName, c.ClientID)
	}
	return d, nil
}

// proves reports whether password is user's.
func (f *Files) proves(ctx context.Context, s *state, from netip.Addr, user string, password []byte) (bool, error) {
	h := s.passwords.byUser[user]
	if h == nil {
		_, err := f.hashing.matches(ctx, from, f.dummy, password)
		return false, err
	}
	mac := hmac.New(sha256.New, f.key[:])
	mac.Write(password)
	var seen [sha256.Size]byte
	mac.Sum(seen[:0])
	s.mu.Lock()
	was, known := s.right[user]
	s.mu.Unlock()
	if known && hmac.Equal(was[:], seen[:]) {
		return true, nil
	}
	if ok, err := f.hashing.matches(ctx, from, h, password); !ok {
		return false, err
	}
	s.mu.Lock()
	if len(s.right) >= rememberedUsers {
		clear(s.right)
	}
	s.right[user] = seen
	s.mu.Unlock()
	return true, nil
}

// A Reauthorizer is *engine.Broker.
type Reauthorizer interface {
	Reauthorize(ctx context.Context, replace func(c hook.Client, old hook.Rights) hook.Rights) error
}

// Reload reads the files again. When one cannot be read nothing changes and the
// error says what is wrong. Otherwise passwords count from the next CONNECT on,
// and rights at once, also for clients that are connected. No loop.
func (f *Files) Reload(ctx context.Context, b Reauthorizer) error {
	s, err := f.options.load()
	if err != nil {
		return err
	}
	f.current.Store(s)
	return b.Reauthorize(ctx, func(c hook.Client, old hook.Rights) hook.Rights {
		if r, ok := old.(*Rights); !ok || r.of != f {
			return old // somebody else's
		}
		return f.rights(s, c.UserName, c.ClientID)
	})
}

// Rights are those of a client by the ACL file; nil without one.
func (f *Files) Rights(user, clientID string) hook.Rights {
	s := f.current.Load()
	if s.acl == nil {
		return nil
	}
	return f.rights(s, user, clientID)
}

// rights are those that s gives a client; there is an ACL.
func (f *Files) rights(s *state, user, clientID string) *Rights {
	r := s.acl.Rights(user, clientID)
	r.of = f
	return r
}
