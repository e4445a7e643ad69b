package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"
	"github.com/xdg-go/stringprep"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/hook"
)

const (
	scramPrefix = "SCRAM-SHA-256"
	scramBytes  = sha256.Size
)

// scramKeys are StoredKey and ServerKey (RFC 5802 section 3).
func scramKeys(password, salt []byte, iterations int) []byte {
	text := string(password)
	if prepared, err := stringprep.SASLprep.Prepare(text); err == nil {
		text = prepared
	}
	salted, err := pbkdf2.Key(sha256.New, text, salt, iterations, scramBytes)
	if err != nil {
		return nil // not in FIPS mode: no match
	}
	mac := func(key []byte, text string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	return append(stored[:], mac(salted, "Server Key")...)
}

// parseSCRAM reads "iterations:salt" and "stored key:server key".
func parseSCRAM(head, keys string) (*Hash, error) {
	rounds, salt, _ := strings.Cut(head, ":")
	stored, server, _ := strings.Cut(keys, ":")
	n, err := strconv.Atoi(rounds)
	if err != nil || n < 1 || n > maxIterations {
		return nil, fmt.Errorf("%q iterations: want 1 to %d", rounds, maxIterations)
	}
	h := &Hash{kind: 's', iterations: n}
	if h.salt, err = base64.StdEncoding.DecodeString(salt); err != nil || len(h.salt) == 0 || len(h.salt) > maxSalt {
		return nil, errors.New("the salt is not base64")
	}
	for _, k := range []string{stored, server} {
		b, err := base64.StdEncoding.DecodeString(k)
		if err != nil || len(b) != scramBytes {
			return nil, errors.New("the keys are not base64, or not of their length")
		}
		h.sum = append(h.sum, b...)
	}
	return h, nil
}

// SCRAM is the enhanced authentication SCRAM-SHA-256 (RFC 5802, RFC 7677; MQTT
// 5.0 section 4.12) by the users of the password file whose hashes are of that
// kind: the password never leaves the client, and the broker proves that it
// knows the user too. The conversation is xdg-go/scram's, which MongoDB's
// driver is built on. A hook.EnhancedAuthenticator.
func (f *Files) SCRAM() hook.EnhancedAuthenticator { return scramMethod{f} }

type scramMethod struct{ files *Files }

func (scramMethod) Method() string { return scramPrefix }

// Begin implements hook.EnhancedAuthenticator.
func (m scramMethod) Begin(c *hook.Connect) hook.Exchange {
	x := &scramExchange{files: m.files, state: m.files.current.Load(), clientID: c.ClientID, user: c.UserName}
	server, err := scram.SHA256.NewServer(x.credentials)
	if err != nil {
		panic(err) // it has no reason to fail
	}
	x.conversation = server.NewConversation()
	return x
}

// A scramExchange is one conversation, owned by its connection. Its steps hash
// nothing but a few short texts: they are for the loop.
type scramExchange struct {
	files          *Files
	state          *state
	conversation   *scram.ServerConversation
	clientID, user string
}

// credentials are those of a user. One that is not there has some too, always
// the same: nobody learns who is.
func (x *scramExchange) credentials(user string) (scram.StoredCredentials, error) {
	h := (*Hash)(nil)
	if p := x.state.passwords; p != nil {
		h = p.byUser[user]
	}
	if h == nil || h.kind != 's' {
		mac := hmac.New(sha256.New, x.files.key[:])
		mac.Write([]byte(user))
		salt := mac.Sum(nil)
		return scram.StoredCredentials{KeyFactors: scram.KeyFactors{Salt: string(salt[:newSaltBytes]), Iters: newSCRAMRounds},
			StoredKey: make([]byte, scramBytes), ServerKey: make([]byte, scramBytes)}, nil
	}
	return scram.StoredCredentials{KeyFactors: scram.KeyFactors{Salt: string(h.salt), Iters: h.iterations},
		StoredKey: h.sum[:scramBytes], ServerKey: h.sum[scramBytes:]}, nil
}

// Step implements hook.Exchange.
func (x *scramExchange) Step(data []byte) (reply []byte, code codec.ReasonCode) {
	defer func() {
		if recover() != nil { // a proof of another length
			reply, code = nil, codec.NotAuthorized
		}
	}()
	answer, err := x.conversation.Step(string(data))
	switch {
	case err != nil:
		return nil, codec.NotAuthorized
	case !x.conversation.Done():
		return []byte(answer), codec.ContinueAuthentication
	case !x.conversation.Valid(), x.conversation.AuthzID() != "" && x.conversation.AuthzID() != x.conversation.Username():
		return nil, codec.NotAuthorized
	case x.user != "" && x.user != x.conversation.Username(): // CONNECT, or who authenticates again, says another
		return nil, codec.NotAuthorized
	}
	return []byte(answer), codec.Success
}

// Decision implements hook.Decided.
func (x *scramExchange) Decision() hook.Decision {
	d := hook.Decision{UserName: x.conversation.Username()}
	if x.state.acl != nil {
		d.Rights = x.files.rights(x.state, d.UserName, x.clientID)
	}
	return d
}
