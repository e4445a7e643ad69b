package config

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/wheelmq/wheelmq/engine/auth"
	"github.com/wheelmq/wheelmq/engine/auth/jwt"
	"github.com/wheelmq/wheelmq/engine/auth/kubernetes"
	"github.com/wheelmq/wheelmq/engine/auth/webhook"
)

// A Method is one way to decide who comes in: one of its sections.
type Method struct {
	JWT        *JWT        `key:"jwt" doc:"the password is a JSON Web Token (OAuth 2.0, OpenID Connect)"`
	Kubernetes *Kubernetes `key:"kubernetes" doc:"the password is a token of a Kubernetes service account"`
	HTTP       *HTTP       `key:"http" doc:"a service decides"`
}

// JWT is how tokens are verified; one of the first four has the keys.
type JWT struct {
	KeyFile    Path     `key:"key_file" doc:"public keys in PEM, or a JWK set"`
	SecretFile Path     `key:"secret_file" doc:"a shared secret of at least 32 bytes"`
	JWKS       string   `key:"jwks" doc:"address of a JWK set"`
	Discover   bool     `key:"discover" doc:"the issuer tells where its keys are"`
	CA         Path     `key:"ca" doc:"PEM file: who signs the provider's certificate; default: the system's"`
	Issuer     string   `key:"issuer" doc:"iss of good tokens; default: any"`
	Audience   []string `key:"audience" doc:"one of these must be in aud; default: any"`
	Algorithms []string `key:"algorithms" doc:"that count; default: all that fit the keys"`
	Leeway     Duration `key:"leeway" doc:"by which clocks may differ" min:"0" max:"600"`
	UserName   string   `key:"user_name_claim" doc:"claim that is the user name"`
	ClientID   string   `key:"client_id_claim" doc:"claim that must be the Client Identifier; default: none"`
	ACL        string   `key:"acl_claim" doc:"claim with rights; default: none"`
	Grants     []Grant  `key:"grants" doc:"rights of who comes in, with ${claim} for what a claim says"`
	AnyTopic   bool     `key:"any_topic" doc:"who comes in may do everything"`
	LoginName  string   `key:"login_name" doc:"user name that says the password is a token; default: any, where it looks like one"`
	Method     string   `key:"method" doc:"name as Authentication Method, for tokens by AUTH"`
}

// Kubernetes is how service-account tokens are reviewed.
type Kubernetes struct {
	LoginName string    `key:"login_name" doc:"user name that says the password is such a token"`
	Audience  []string  `key:"audience" doc:"one of these must be the token's"`
	APIServer string    `key:"api_server" doc:"address; default: that of the cluster that the broker runs in"`
	TokenFile Path      `key:"token_file" doc:"by which the broker comes in at the API server; default: that of its pod"`
	CA        Path      `key:"ca" doc:"PEM file: who signs the API server's certificate; default: that of the pod"`
	Timeout   Duration  `key:"timeout" doc:"of a review" min:"0.01" max:"60"`
	AtOnce    int       `key:"at_once" doc:"reviews under way; clients beyond are refused" min:"1" max:"10000"`
	Fresh     Duration  `key:"fresh" doc:"a review counts for so long" min:"0" max:"3600"`
	Keys      *JWT      `key:"keys" doc:"verify tokens by the keys of the cluster's issuer, in place of reviews"`
	Accounts  []Account `key:"accounts" doc:"who may come in; the first that fits counts"`
}

// Account is a service account.
type Account struct {
	Namespace string  `key:"namespace" doc:"its namespace; *: any"`
	Name      string  `key:"name" doc:"its name; *: any"`
	Grants    []Grant `key:"grants" doc:"rights, with ${namespace} and ${account}; default: everything"`
}

// HTTP is a service that decides.
type HTTP struct {
	URL        string   `key:"url" doc:"where it is asked"`
	CA         Path     `key:"ca" doc:"PEM file: who signs its certificate; default: the system's"`
	Cert       Path     `key:"certificate" doc:"PEM file with our own certificate"`
	Key        Path     `key:"key" doc:"PEM file with its key"`
	TokenFile  Path     `key:"token_file" doc:"file with a bearer token to send"`
	Timeout    Duration `key:"timeout" doc:"of a request" min:"0.01" max:"60"`
	AtOnce     int      `key:"at_once" doc:"requests under way; clients beyond are refused" min:"1" max:"10000"`
	Failures   int      `key:"failures" doc:"in a row, after which the service is left alone" min:"1" max:"1000"`
	LeaveAlone Duration `key:"leave_alone" doc:"for so long" min:"0.1" max:"3600"`
	Fresh      Duration `key:"fresh" doc:"an answer counts for so long without asking" min:"0" max:"86400"`
	Stale      Duration `key:"stale" doc:"and so long while the service fails" min:"0" max:"604800"`
	Remembered int      `key:"remembered" doc:"answers" min:"1" max:"10000000"`
}

// A Grant is what some topics may be used for.
type Grant struct {
	Allow  []string `key:"allow" doc:"some of publish, retain, will, subscribe, receive"`
	Forbid []string `key:"forbid" doc:"some of these, whatever other grants say"`
	Deny   bool     `key:"deny" doc:"all of them, whatever other grants say"`
	Topics []string `key:"topics" doc:"filters, with %u for the user name and %c for the client identifier"`
}

// What sections say that say nothing.
func (j *JWT) defaults() { j.UserName, j.Method = "sub", "JWT" }
func (k *Kubernetes) defaults() {
	k.LoginName, k.Timeout, k.AtOnce = "$sat", Duration(3*time.Second), 32
}
func (h *HTTP) defaults() {
	h.Timeout, h.AtOnce, h.Failures, h.LeaveAlone, h.Remembered = Duration(3*time.Second), 32, 5, Duration(5*time.Second), 100_000
}

func grants(list []Grant) (out []auth.Grant) {
	for _, g := range list {
		out = append(out, auth.Grant{Allow: g.Allow, Forbid: g.Forbid, Deny: g.Deny, Topics: g.Topics})
	}
	return out
}

// resolved resolves paths, and joins what is wrong with them.
func resolved(paths map[*string]Path) error {
	var errs []error
	for to, p := range paths {
		var err error
		if *to, err = p.resolve(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Config is j as package jwt takes it.
func (j *JWT) Config() (jwt.Config, error) {
	c := jwt.Config{JWKS: j.JWKS, Discover: j.Discover, Issuer: j.Issuer, Audience: j.Audience, Algorithms: j.Algorithms,
		Leeway: time.Duration(j.Leeway), UserName: j.UserName, ClientID: j.ClientID, ACL: j.ACL, Grants: grants(j.Grants),
		AnyTopic: j.AnyTopic, LoginName: j.LoginName, Method: j.Method}
	err := resolved(map[*string]Path{&c.KeyFile: j.KeyFile, &c.SecretFile: j.SecretFile, &c.CAFile: j.CA})
	return c, err
}

// Config is k as package kubernetes takes it, Verifier excepted.
func (k *Kubernetes) Config() (kubernetes.Config, error) {
	c := kubernetes.Config{LoginName: k.LoginName, Audience: k.Audience, APIServer: k.APIServer, Timeout: time.Duration(k.Timeout),
		AtOnce: k.AtOnce, Fresh: time.Duration(k.Fresh)}
	for _, a := range k.Accounts {
		c.Accounts = append(c.Accounts, kubernetes.Account{Namespace: a.Namespace, Name: a.Name, Grants: grants(a.Grants)})
	}
	err := resolved(map[*string]Path{&c.TokenFile: k.TokenFile, &c.CAFile: k.CA})
	return c, err
}

// Config is h as package webhook takes it.
func (h *HTTP) Config() (webhook.Config, error) {
	c := webhook.Config{URL: h.URL, Timeout: time.Duration(h.Timeout), AtOnce: h.AtOnce, Failures: h.Failures,
		LeaveAlone: time.Duration(h.LeaveAlone), Fresh: time.Duration(h.Fresh), Stale: time.Duration(h.Stale), Remembered: h.Remembered}
	err := resolved(map[*string]Path{&c.CAFile: h.CA, &c.CertFile: h.Cert, &c.KeyFile: h.Key})
	if path, e := h.TokenFile.resolve(); e != nil {
		err = errors.Join(err, e)
	} else if path != "" {
		b, e := os.ReadFile(path)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("token_file: %w", e))
		}
		c.Token = strings.TrimSpace(string(b))
	}
	return c, err
}

// makeUsers is who decides at a listener; any is false where nobody does.
func makeUsers(listener string, methods []Method, files *UserFiles) (u Users, any bool, err error) {
	u = Users{Listener: listener, Methods: methods}
	var errs []error
	for i, m := range methods {
		n := 0
		for _, there := range []bool{m.JWT != nil, m.Kubernetes != nil, m.HTTP != nil} {
			if there {
				n++
			}
		}
		if n != 1 {
			errs = append(errs, fmt.Errorf("authentication[%d]: want one of jwt, kubernetes and http, there are %d", i, n))
		}
	}
	if files != nil {
		var filesErr error
		if u.Files, any, filesErr = files.options(); filesErr != nil {
			errs = append(errs, filesErr)
		}
	}
	return u, any || len(methods) > 0, errors.Join(errs...)
}
