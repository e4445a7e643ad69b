package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/wheelmq/wheelmq/cmd/internal/config"
	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine"
	"github.com/wheelmq/wheelmq/engine/auth"
	"github.com/wheelmq/wheelmq/engine/auth/jwt"
	"github.com/wheelmq/wheelmq/engine/auth/kubernetes"
	"github.com/wheelmq/wheelmq/engine/auth/webhook"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// users decide by what the configuration says of the listener that a client
// came by.
type users struct{ now atomic.Pointer[usersState] }

// A usersState is what configuration and files said when they were read.
// Immutable.
type usersState struct {
	every      *chain            // nil: none
	byListener map[string]*chain // in place of every
}

// A chain is who decides at a listener: one after the other, files last.
type chain struct {
	deciders []hook.Decider
	tokens   []*jwt.Verifier // that clients may use by AUTH
	ends     []func()        // of what runs for the chain
	files    *auth.Files     // nil: none
}

// foreign marks sessions whose rights do not come from files: they stay when
// files are read again.
type foreign struct{}

// openUsers reads the files and makes ready what decides. busy is told when
// passwords are hashed.
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
	s := &usersState{byListener: make(map[string]*chain)}
	var errs []error
	for _, x := range list {
		c, err := newChain(&x, busy)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if x.Listener == "" {
			s.every = c
		} else {
			s.byListener[x.Listener] = c
		}
	}
	if err := errors.Join(errs...); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func newChain(x *config.Users, busy func(bool)) (*chain, error) {
	c := new(chain)
	for i, m := range x.Methods {
		if err := c.add(&m); err != nil {
			c.close()
			return nil, fmt.Errorf("authentication[%d]: %w", i, err)
		}
	}
	if x.Files.PasswordFile == "" && x.Files.ACLFile == "" {
		return c, nil
	}
	x.Files.HashesBusy = func(b bool) {
		busy(b)
		if !b {
			afterHashing()
		}
	}
	var err error
	if c.files, err = auth.Open(x.Files); err != nil {
		c.close()
	}
	return c, err
}

func (c *chain) add(m *config.Method) error {
	switch {
	case m.JWT != nil:
		v, err := newVerifier(m.JWT)
		if err != nil {
			return err
		}
		c.deciders, c.tokens, c.ends = append(c.deciders, v), append(c.tokens, v), append(c.ends, v.Close)
	case m.Kubernetes != nil:
		options, err := m.Kubernetes.Config()
		if err != nil {
			return err
		}
		if m.Kubernetes.Keys != nil {
			v, err := newAccountVerifier(m.Kubernetes)
			if err != nil {
				return err
			}
			options.Verifier = v
			c.ends = append(c.ends, v.Close) // not among tokens: who may come in the accounts say
		}
		k, err := kubernetes.New(options)
		if err != nil {
			return err
		}
		c.deciders = append(c.deciders, k)
	default:
		options, err := m.HTTP.Config()
		if err != nil {
			return err
		}
		w, err := webhook.New(options)
		if err != nil {
			return err
		}
		c.deciders = append(c.deciders, w)
	}
	return nil
}

func newVerifier(j *config.JWT) (*jwt.Verifier, error) {
	options, err := j.Config()
	if err != nil {
		return nil, err
	}
	return jwt.New(options)
}

// newAccountVerifier verifies tokens of service accounts by keys. It gives no
// rights: those are the accounts'.
func newAccountVerifier(k *config.Kubernetes) (*jwt.Verifier, error) {
	options, err := k.Keys.Config()
	switch {
	case err != nil:
		return nil, err
	case len(options.Grants) > 0 || options.ACL != "" || options.UserName != "sub":
		return nil, errors.New("kubernetes: keys: rights and user names come from the accounts: leave out grants, acl_claim and user_name_claim")
	case len(k.Audience) > 0 && len(options.Audience) > 0:
		return nil, errors.New("kubernetes: audience stands there twice: leave out the one of keys")
	case len(options.Audience) == 0:
		options.Audience = k.Audience
	}
	options.AnyTopic = true
	return jwt.New(options)
}

// close ends what runs for c.
func (c *chain) close() {
	for _, end := range c.ends {
		end()
	}
}

func (s *usersState) close() {
	for _, c := range s.chains() {
		c.close()
	}
}

func (s *usersState) chains() []*chain {
	all := slices.Collect(maps.Values(s.byListener))
	if s.every != nil {
		all = append(all, s.every)
	}
	return all
}

// at is who decides at a listener; nil: nobody.
func (s *usersState) at(listener string) *chain {
	if c := s.byListener[listener]; c != nil {
		return c
	}
	return s.every
}

// DecideNow implements hook.PromptDecider: where nobody is named there is
// nothing to wait for.
func (u *users) DecideNow(c *hook.Connect) *hook.Decision {
	if u.now.Load().at(c.Listener) != nil {
		return nil
	}
	return withoutUsers(c)
}

var acceptAnybody, noOpinion = hook.Decision{Verdict: hook.Accept}, hook.Decision{}

// withoutUsers decides at a listener that names nobody.
func withoutUsers(c *hook.Connect) *hook.Decision {
	if c.Anonymous { // any name is as good as none
		return &acceptAnybody
	}
	return &noOpinion
}

// Decide implements hook.Decider.
func (u *users) Decide(ctx context.Context, c *hook.Connect) (hook.Decision, error) {
	who := u.now.Load().at(c.Listener)
	if who == nil {
		return *withoutUsers(c), nil
	}
	for _, d := range who.deciders {
		decision, err := d.Decide(ctx, c)
		if err != nil || decision.Verdict != hook.Pass {
			decision.Data = foreign{}
			return decision, err
		}
	}
	if who.files == nil {
		return hook.Decision{}, nil
	}
	return who.files.Decide(ctx, c)
}

// replace puts s in force: for clients that come, and for the rights of those
// that are there by files. A session whose client is away has them by the
// listener that it last came by, as far as its rights tell.
func (u *users) replace(ctx context.Context, b *engine.Broker, s *usersState) error {
	before := u.now.Swap(s)
	before.close()
	return b.Reauthorize(ctx, func(c hook.Client, old hook.Rights) hook.Rights {
		if _, ok := c.Data.(foreign); ok {
			return old
		}
		listener := c.Listener
		if r, ok := old.(*auth.Rights); ok && listener == "" {
			listener = before.listener(r.Of())
		}
		who := s.at(listener)
		if who == nil || who.files == nil {
			return nil
		}
		return who.files.Rights(c.UserName, c.ClientID)
	})
}

// listener is whose files f are; "" for those of all.
func (s *usersState) listener(f *auth.Files) string {
	for name, c := range s.byListener {
		if c.files == f {
			return name
		}
	}
	return ""
}

// enhanced are the Authentication Methods that the configuration offers
// somewhere, each a hook.EnhancedAuthenticator that looks at the listener.
func (u *users) enhanced() (list []any) {
	names := map[string]bool{}
	for _, c := range u.now.Load().chains() {
		if c.files != nil {
			names[scramName] = true
		}
		for _, v := range c.tokens {
			names[v.Method()] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		list = append(list, enhancedMethod{u, name})
	}
	return list
}

const scramName = "SCRAM-SHA-256"

// An enhancedMethod is one method at all listeners.
type enhancedMethod struct {
	users *users
	name  string
}

func (m enhancedMethod) Method() string { return m.name }

// Begin implements hook.EnhancedAuthenticator.
func (m enhancedMethod) Begin(c *hook.Connect) hook.Exchange {
	who := m.users.now.Load().at(c.Listener)
	if who != nil {
		for _, v := range who.tokens {
			if v.Method() == m.name {
				return byToken{v.Begin(c).(tokenExchange)}
			}
		}
		if who.files != nil && m.name == scramName {
			return who.files.SCRAM().Begin(c)
		}
	}
	return notHere{}
}

// notHere refuses: another listener offers the method.
type notHere struct{}

func (notHere) Step([]byte) ([]byte, codec.ReasonCode) { return nil, codec.BadAuthenticationMethod }

type tokenExchange interface {
	hook.SlowExchange
	hook.Decided
}

// byToken marks who came in by a token.
type byToken struct{ tokenExchange }

func (x byToken) Decision() hook.Decision {
	d := x.tokenExchange.Decision()
	d.Data = foreign{}
	return d
}
