// Package jwt lets clients in by JSON Web Tokens (RFC 7519), as OAuth 2.0 and
// OpenID Connect hand them out: the token is the password, or the
// Authentication Data of an enhanced authentication, by which a client renews
// it while it is connected (MQTT 5.0 section 4.12.1).
//
// [Verifier] is a hook.Decider and a hook.EnhancedAuthenticator. A connection
// ends with its token (0x87).
//
// # Design
//
// Signatures and claims are golang-jwt's, the most used of the field; JWK sets
// with their rotation keyfunc's, by the same authors' circle. Which algorithms
// count is settled by where the keys come from, never by the token: a shared
// secret has HMAC alone, public keys never have it, and none is none.
//
// Nothing is remembered of tokens: to verify one costs some ten microseconds,
// off the loops, and a key that was withdrawn counts no more at once.
package jwt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/auth"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// Config says which tokens are good, and what is in them.
type Config struct {
	// One of these has the keys.
	KeyFile    string // public keys or certificates in PEM, or a JWK set
	SecretFile string // a shared secret of at least 32 bytes
	JWKS       string // address of a JWK set
	Discover   bool   // Issuer tells where its JWK set is

	CAFile     string        // PEM: who signs the provider's certificate; "": the system's
	Issuer     string        // iss; "": any
	Audience   []string      // one of them must be in aud; empty: any
	Algorithms []string      // empty: all that fit the keys
	Leeway     time.Duration // by which clocks may differ; 0: none

	UserName      string       // claim with the user name; "": sub
	ClientID      string       // claim that must be the Client Identifier; "": none
	ACL           string       // claim with rights; "": none
	Grants        []auth.Grant // rights of who comes in, with ${claim} for a claim's value; with ACL both count
	AnyTopic      bool         // rights are not looked at: who comes in may do everything
	LoginName     string       // user name that says the password is a token; "": any, where it looks like one
	Method        string       // of enhanced authentication; "": JWT
	WithoutExpiry bool         // tokens without exp count
}

var (
	publicAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	secretAlgorithms = []string{"HS256", "HS384", "HS512"}
)

func (c *Config) algorithms() []string {
	all := publicAlgorithms
	if c.SecretFile != "" {
		all = secretAlgorithms
	}
	if len(c.Algorithms) == 0 {
		return all
	}
	return c.Algorithms
}

// Validate reports what is wrong with c, everything at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("jwt: "+format, a...)) }
	sources := 0
	for _, is := range []bool{c.KeyFile != "", c.SecretFile != "", c.JWKS != "", c.Discover} {
		if is {
			sources++
		}
	}
	if sources != 1 {
		bad("want one of a key file, a secret file, the address of a JWK set, and discovery; there are %d", sources)
	}
	if c.Discover {
		if _, err := checkURL(c.Issuer); err != nil {
			bad("issuer: %w", err)
		}
	}
	if c.JWKS != "" {
		if _, err := checkURL(c.JWKS); err != nil {
			bad("JWK set: %w", err)
		}
	}
	known := publicAlgorithms
	if c.SecretFile != "" {
		known = secretAlgorithms
	}
	for _, a := range c.Algorithms {
		if !slices.Contains(known, a) {
			bad("algorithm %q: with these keys want one of %s", a, strings.Join(known, ", "))
		}
	}
	if c.Leeway < 0 || c.Leeway > 10*time.Minute {
		bad("leeway %v: want up to 10 minutes", c.Leeway)
	}
	if c.AnyTopic && (c.ACL != "" || len(c.Grants) > 0) {
		bad("rights by claims or grants, and none at all: want one of them")
	}
	if !c.AnyTopic && c.ACL == "" && len(c.Grants) == 0 {
		bad("what clients may do is not said: by a claim, by grants, or everything")
	}
	return errors.Join(errs...)
}

// A Verifier verifies tokens. Any goroutine.
type Verifier struct {
	config Config
	parser *jwt.Parser
	keys   keys
	end    context.CancelFunc
}

// New reads the files that c names. Keys that are at an address are fetched
// when the first token comes. Close ends what keeps them up to date.
func New(c Config) (*Verifier, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.UserName == "" {
		c.UserName = "sub"
	}
	if c.Method == "" {
		c.Method = "JWT"
	}
	options := []jwt.ParserOption{jwt.WithValidMethods(c.algorithms()), jwt.WithLeeway(c.Leeway), jwt.WithIssuedAt()}
	if !c.WithoutExpiry {
		options = append(options, jwt.WithExpirationRequired())
	}
	if c.Issuer != "" {
		options = append(options, jwt.WithIssuer(c.Issuer))
	}
	if len(c.Audience) > 0 {
		options = append(options, jwt.WithAudience(c.Audience...))
	}
	v := &Verifier{config: c, parser: jwt.NewParser(options...), end: func() {}}
	var err error
	switch {
	case c.KeyFile != "":
		v.keys, err = readKeys(c.KeyFile)
	case c.SecretFile != "":
		v.keys, err = readSecret(c.SecretFile)
	default:
		p := &provider{address: c.JWKS, between: unknownKey}
		if c.Discover {
			p.issuer = c.Issuer
		}
		p.end, v.end = context.WithCancel(context.Background())
		if p.client, err = newClient(c.CAFile); err != nil {
			v.end()
		}
		v.keys = p
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// Close ends the requests for keys.
func (v *Verifier) Close() { v.end() }

// maxToken bounds a token.
const maxToken = 16 << 10

// looksLikeToken reports whether s has the three parts of a signed token.
func looksLikeToken(s []byte) bool {
	parts := strings.Split(string(s), ".")
	return len(s) <= maxToken && len(parts) == 3 && len(parts[0]) > 10 && strings.HasPrefix(parts[0], "eyJ")
}

// Decide implements hook.Decider: it has no opinion on passwords that are no
// tokens.
func (v *Verifier) Decide(ctx context.Context, c *hook.Connect) (hook.Decision, error) {
	mine := v.config.LoginName != "" && c.UserName == v.config.LoginName || v.config.LoginName == "" && looksLikeToken(c.Password)
	if !mine || c.Identified {
		return hook.Decision{}, nil
	}
	return v.Token(ctx, string(c.Password), c.ClientID)
}

// Token says what a token is good for, of a client with this identifier. An
// error means that it could not be looked at.
func (v *Verifier) Token(ctx context.Context, token, clientID string) (hook.Decision, error) {
	refuse := func(code codec.ReasonCode, reason string) (hook.Decision, error) {
		return hook.Decision{Verdict: hook.Refuse, Code: code, Reason: reason}, nil
	}
	if len(token) > maxToken {
		return refuse(codec.BadUserNameOrPassword, "the token is too large")
	}
	claims := jwt.MapClaims{}
	_, err := v.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) { return v.keys.find(ctx, t) })
	switch {
	case errors.Is(err, errUnavailable), errors.Is(err, context.DeadlineExceeded):
		return hook.Decision{}, err
	case errors.Is(err, jwt.ErrTokenExpired):
		return refuse(codec.NotAuthorized, "the token has expired")
	case err != nil:
		return refuse(codec.BadUserNameOrPassword, "the token is not good: "+reason(err))
	}
	user, ok := text(claims[v.config.UserName])
	if !ok {
		return refuse(codec.NotAuthorized, "the token has no claim "+v.config.UserName)
	}
	if name := v.config.ClientID; name != "" {
		if id, _ := text(claims[name]); id != clientID {
			return refuse(codec.ClientIdentifierNotValid, "the token is for another client identifier")
		}
	}
	d := hook.Decision{Verdict: hook.Accept, UserName: user}
	if !v.config.AnyTopic {
		grants, err := v.grants(claims)
		if err == nil {
			d.Rights, err = auth.NewRights(user, clientID, grants)
		}
		if err != nil {
			return refuse(codec.NotAuthorized, "the token's rights cannot be read")
		}
	}
	if end, err := claims.GetExpirationTime(); err == nil && end != nil {
		d.Until = end.Add(v.config.Leeway)
	}
	return d, nil
}

// reason is what a client is told of a token that is not good.
func reason(err error) string {
	for _, e := range []error{jwt.ErrTokenMalformed, jwt.ErrTokenSignatureInvalid, jwt.ErrTokenInvalidAudience, jwt.ErrTokenInvalidIssuer,
		jwt.ErrTokenNotValidYet, jwt.ErrTokenUsedBeforeIssued, jwt.ErrTokenRequiredClaimMissing, jwt.ErrTokenUnverifiable} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return "it cannot be verified"
}

// text is a claim as text: a string, or a whole number.
func text(claim any) (string, bool) {
	switch x := claim.(type) {
	case string:
		return x, x != ""
	case float64:
		return fmt.Sprintf("%.0f", x), x == float64(int64(x))
	default:
		return "", false
	}
}

// Method implements hook.EnhancedAuthenticator.
func (v *Verifier) Method() string { return v.config.Method }

// Begin implements hook.EnhancedAuthenticator. The client's first
// Authentication Data is the token.
func (v *Verifier) Begin(c *hook.Connect) hook.Exchange {
	return &exchange{v: v, clientID: c.ClientID, user: c.UserName}
}

// An exchange is one token by AUTH.
type exchange struct {
	v              *Verifier
	clientID, user string
	decision       hook.Decision
}

// Step implements hook.Exchange; StepContext is called in its place.
func (x *exchange) Step(data []byte) ([]byte, codec.ReasonCode) {
	return x.StepContext(context.Background(), data)
}

// StepContext implements hook.SlowExchange.
func (x *exchange) StepContext(ctx context.Context, data []byte) ([]byte, codec.ReasonCode) {
	d, err := x.v.Token(ctx, string(data), x.clientID)
	switch {
	case err != nil:
		return nil, codec.ServerUnavailable
	case d.Verdict != hook.Accept:
		return nil, d.Code
	case x.user != "" && x.user != d.UserName && x.user != x.v.config.LoginName: // renewed by somebody else's token
		return nil, codec.NotAuthorized
	}
	x.decision = d
	return nil, codec.Success
}

// Decision implements hook.Decided.
func (x *exchange) Decision() hook.Decision { return x.decision }
