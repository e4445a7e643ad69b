// Package kubernetes lets clients in by the service-account tokens of a
// Kubernetes cluster, as Azure IoT MQ takes them: the user name is $sat, the
// password the token that the cluster projects into the pod.
//
// A token is reviewed by the API server (TokenReview, authentication.k8s.io/v1)
// or, with [Config].Verifier, verified by the keys of the cluster's issuer
// without asking. The client's user name becomes
// system:serviceaccount:NAMESPACE:ACCOUNT; its rights are those that [Config]
// has for both. The connection ends with the token.
package kubernetes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wheelmq/wheelmq/codec"
	"github.com/wheelmq/wheelmq/engine/auth"
	"github.com/wheelmq/wheelmq/engine/auth/internal/remote"
	"github.com/wheelmq/wheelmq/engine/hook"
)

// Config says whose tokens are good, and for what.
type Config struct {
	LoginName string   // user name that says the password is such a token; "": $sat
	Audience  []string // one of them must be the token's

	APIServer string        // address; "": that of the cluster that the broker runs in
	TokenFile string        // by which the broker itself comes in; read again at each request; "": that of its pod
	CAFile    string        // PEM: who signs the API server's certificate; "": that of the pod
	Timeout   time.Duration // of a review; 0: 3 s
	AtOnce    int           // reviews under way; clients beyond are refused with 0x88; 0: 32
	Fresh     time.Duration // a review counts for so long without asking again; 0: each CONNECT is reviewed
	Verifier  Verifier      // in place of the API server; nil: none

	Accounts []Account // the first that fits counts; none: nobody comes in
}

// A Verifier verifies tokens by keys: jwt.Verifier.
type Verifier interface {
	Token(ctx context.Context, token, clientID string) (hook.Decision, error)
}

// An Account is who may come in.
type Account struct {
	Namespace string       // "*": any
	Name      string       // "*": any
	Grants    []auth.Grant // rights, with ${namespace} and ${account}; none: everything
}

// inPod is where a pod finds what the cluster gives it.
const inPod = "/var/run/secrets/kubernetes.io/serviceaccount"

// A Hook is a hook.Decider by service-account tokens. Any goroutine.
type Hook struct {
	config  Config
	service *remote.Service // nil with a Verifier
	known   *remote.Cache[string]

	mu    sync.Mutex
	token string // the broker's own
	mod   time.Time
}

// remembered bounds the reviews that are remembered.
const remembered = 100_000

// New checks c and reads the files that it names.
func New(c Config) (*Hook, error) {
	if c.LoginName == "" {
		c.LoginName = "$sat"
	}
	if len(c.Accounts) == 0 {
		return nil, errors.New("kubernetes: no account may come in: name some")
	}
	for _, a := range c.Accounts {
		if a.Namespace == "" || a.Name == "" {
			return nil, errors.New(`kubernetes: an account needs a namespace and a name, or "*" for any`)
		}
	}
	h := &Hook{config: c, known: remote.NewCache[string](remembered)}
	if c.Verifier != nil {
		return h, nil
	}
	if c.APIServer == "" {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
		if host == "" || port == "" {
			return nil, errors.New("kubernetes: the broker does not run in a cluster: say where the API server is")
		}
		c.APIServer = "https://" + net.JoinHostPort(host, port)
		if c.CAFile == "" {
			c.CAFile = filepath.Join(inPod, "ca.crt")
		}
	}
	if h.config.TokenFile == "" {
		h.config.TokenFile = filepath.Join(inPod, "token")
	}
	if _, err := h.ownToken(); err != nil {
		return nil, err
	}
	var err error
	h.service, err = remote.New(remote.Config{URL: strings.TrimSuffix(c.APIServer, "/") + "/apis/authentication.k8s.io/v1/tokenreviews",
		CAFile: c.CAFile, Timeout: c.Timeout, AtOnce: c.AtOnce})
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	return h, nil
}

// ownToken is the broker's own, which the cluster exchanges from time to time.
func (h *Hook) ownToken() (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	info, err := os.Stat(h.config.TokenFile)
	if err == nil && (h.token == "" || !info.ModTime().Equal(h.mod)) {
		var b []byte
		if b, err = os.ReadFile(h.config.TokenFile); err == nil {
			h.token, h.mod = strings.TrimSpace(string(b)), info.ModTime()
		}
	}
	if err != nil {
		return "", fmt.Errorf("kubernetes: the broker's own token: %w", err)
	}
	return h.token, nil
}

// review is a TokenReview.
type review struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Spec       reviewSpec   `json:"spec"`
	Status     reviewStatus `json:"status"`
}

type reviewSpec struct {
	Token     string   `json:"token"`
	Audiences []string `json:"audiences,omitempty"`
}

type reviewStatus struct {
	Authenticated bool     `json:"authenticated"`
	Audiences     []string `json:"audiences"`
	Error         string   `json:"error"`
	User          struct {
		Username string `json:"username"`
	} `json:"user"`
}

// maxToken bounds a token.
const maxToken = 16 << 10

// Decide implements hook.Decider: it has no opinion on other user names.
func (h *Hook) Decide(ctx context.Context, c *hook.Connect) (hook.Decision, error) {
	if c.UserName != h.config.LoginName || c.Identified {
		return hook.Decision{}, nil
	}
	refuse := func(reason string) (hook.Decision, error) {
		return hook.Decision{Verdict: hook.Refuse, Code: codec.BadUserNameOrPassword, Reason: reason}, nil
	}
	if len(c.Password) == 0 || len(c.Password) > maxToken {
		return refuse("the password is no token")
	}
	token := string(c.Password)
	end := expiry(token)
	if !end.IsZero() && time.Now().After(end) {
		return hook.Decision{Verdict: hook.Refuse, Code: codec.NotAuthorized, Reason: "the token has expired"}, nil
	}
	user, err := h.user(ctx, token, c.ClientID)
	if err != nil {
		return hook.Decision{}, err
	}
	namespace, account, ok := serviceAccount(user)
	if !ok {
		return refuse("the token is not good, or no service account's")
	}
	for _, a := range h.config.Accounts {
		if a.Namespace != "*" && a.Namespace != namespace || a.Name != "*" && a.Name != account {
			continue
		}
		d := hook.Decision{Verdict: hook.Accept, UserName: user, Until: end}
		if len(a.Grants) > 0 {
			if d.Rights, err = auth.NewRights(user, c.ClientID, fill(a.Grants, namespace, account)); err != nil {
				return hook.Decision{}, err
			}
		}
		return d, nil
	}
	return hook.Decision{Verdict: hook.Refuse, Code: codec.NotAuthorized, Reason: "this service account may not come in"}, nil
}

// user is whose token it is; "" for one that is not good.
func (h *Hook) user(ctx context.Context, token, clientID string) (string, error) {
	if h.config.Verifier != nil {
		d, err := h.config.Verifier.Token(ctx, token, clientID)
		if err != nil || d.Verdict != hook.Accept {
			return "", err
		}
		return d.UserName, nil
	}
	key := h.known.Key(token)
	if user, age, ok := h.known.Get(key); ok && age < h.config.Fresh {
		return user, nil
	}
	own, err := h.ownToken()
	if err != nil {
		return "", err
	}
	ask := review{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview", Spec: reviewSpec{Token: token, Audiences: h.config.Audience}}
	var answer review
	if err := h.service.Post(ctx, own, ask, &answer); err != nil {
		return "", fmt.Errorf("kubernetes: %w", err)
	}
	s := &answer.Status
	if answer.Kind != "TokenReview" {
		return "", fmt.Errorf("kubernetes: the API server answers with a %q", answer.Kind)
	}
	// An API server that does not know audiences names none: its answer says nothing then.
	if !s.Authenticated || len(h.config.Audience) > 0 && !slices.ContainsFunc(h.config.Audience, func(a string) bool { return slices.Contains(s.Audiences, a) }) {
		return "", nil
	}
	if h.config.Fresh > 0 {
		h.known.Put(key, s.User.Username)
	}
	return s.User.Username, nil
}

// serviceAccount takes a user name of the cluster's apart.
func serviceAccount(user string) (namespace, account string, ok bool) {
	rest, ok := strings.CutPrefix(user, "system:serviceaccount:")
	if !ok {
		return "", "", false
	}
	namespace, account, ok = strings.Cut(rest, ":")
	return namespace, account, ok && namespace != "" && account != "" && !strings.ContainsAny(rest, "+#/%")
}

func fill(grants []auth.Grant, namespace, account string) []auth.Grant {
	names := strings.NewReplacer("${namespace}", namespace, "${account}", account)
	filled := make([]auth.Grant, len(grants))
	for i, g := range grants {
		filled[i] = auth.Grant{Allow: g.Allow, Forbid: g.Forbid, Deny: g.Deny}
		for _, t := range g.Topics {
			filled[i].Topics = append(filled[i].Topics, names.Replace(t))
		}
	}
	return filled
}

// expiry is when a token says that it ends; zero where it does not say. It is
// looked at for the time alone: whether the token is good others decide.
func expiry(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Expiry float64 `json:"exp"`
	}
	if err != nil || json.Unmarshal(b, &claims) != nil || claims.Expiry <= 0 || claims.Expiry > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(claims.Expiry), 0)
}
