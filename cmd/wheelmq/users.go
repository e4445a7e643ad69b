package main

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/wheelmq/wheelmq/cmd/internal/config"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/auth"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// users decide by the files of the listener that a client came by.
type users struct{ now atomic.Pointer[usersState] }

// A usersState is what files said when they were read. Immutable.
type usersState struct {
	every      *auth.Files            // nil: none
	byListener map[string]*auth.Files // in place of every
}

// openUsers reads the files. busy is told when passwords are hashed.
func openUsers(list []config.Users, busy func(bool)) (*users, error) {
	s, err := readUsers(list, busy)
	if err != nil {
		return nil, err
	}
	u := new(users)
	u.now.Store(s)
	return u, nil
}

func readUsers(list []config.Users, busy func(bool)) (*usersState, error) {
	s := &usersState{byListener: make(map[string]*auth.Files)}
	var errs []error
	for _, x := range list {
		x.Files.HashesBusy = busy
		f, err := auth.Open(x.Files)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if x.Listener == "" {
			s.every = f
		} else {
			s.byListener[x.Listener] = f
		}
	}
	return s, errors.Join(errs...)
}

// files are those of a listener; nil: none.
func (s *usersState) files(listener string) *auth.Files {
	if f := s.byListener[listener]; f != nil {
		return f
	}
	return s.every
}

// Decide implements hook.Decider.
func (u *users) Decide(ctx context.Context, c *hook.Connect) (hook.Decision, error) {
	if f := u.now.Load().files(c.Listener); f != nil {
		return f.Decide(ctx, c)
	}
	if c.Anonymous { // nobody is known by name here: any name is as good as none
		return hook.Decision{Verdict: hook.Accept}, nil
	}
	return hook.Decision{}, nil
}

// replace puts s in force: for clients that come, and for the rights of those
// that are there. A session whose client is away has them by the listener that
// it last came by, as far as its rights tell.
func (u *users) replace(ctx context.Context, b *engine.Broker, s *usersState) error {
	before := u.now.Swap(s)
	return b.Reauthorize(ctx, func(c hook.Client, old hook.Rights) hook.Rights {
		listener := c.Listener
		if r, ok := old.(*auth.Rights); ok && listener == "" {
			listener = before.listener(r.Of())
		}
		f := s.files(listener)
		if f == nil {
			return nil
		}
		return f.Rights(c.UserName, c.ClientID)
	})
}

// listener is whose files f are; "" for those of all.
func (s *usersState) listener(f *auth.Files) string {
	for name, x := range s.byListener {
		if x == f {
			return name
		}
	}
	return ""
}
