package jwt

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/wheelmq/wheelmq/engine/auth"
)

// grants are the rights that a token gives: those of the configuration with the
// claims filled in, and those of its own claim.
func (v *Verifier) grants(claims jwt.MapClaims) ([]auth.Grant, error) {
	var grants []auth.Grant
	for _, g := range v.config.Grants {
		filled := auth.Grant{Allow: g.Allow, Forbid: g.Forbid, Deny: g.Deny}
		for _, t := range g.Topics {
			topics, err := fill(t, claims)
			if err != nil {
				return nil, err
			}
			filled.Topics = append(filled.Topics, topics...)
		}
		if len(filled.Topics) > 0 {
			grants = append(grants, filled)
		}
	}
	if v.config.ACL == "" {
		return grants, nil
	}
	own, err := claimGrants(claims[v.config.ACL])
	return append(grants, own...), err
}

// fill puts claims into the ${claim} of a filter: one filter for each element
// of a claim that is a list, none where a claim is missing.
func fill(filter string, claims jwt.MapClaims) ([]string, error) {
	before, rest, ok := strings.Cut(filter, "${")
	if !ok {
		return []string{filter}, nil
	}
	name, after, ok := strings.Cut(rest, "}")
	if !ok {
		return nil, fmt.Errorf("jwt: %q: no } behind ${", filter)
	}
	values, ok := claims[name].([]any)
	if !ok {
		values = []any{claims[name]}
	}
	tails, err := fill(after, claims)
	if err != nil {
		return nil, err
	}
	var filters []string
	for _, x := range values {
		value, ok := text(x)
		if !ok || strings.ContainsAny(value, "+#%/") { // it would grant more than was meant
			continue
		}
		for _, tail := range tails {
			if filters = append(filters, before+value+tail); len(filters) > auth.MaxGrants {
				return nil, fmt.Errorf("jwt: more than %d topics", auth.MaxGrants)
			}
		}
	}
	return filters, nil
}

// claimGrants reads a claim with rights: a list of grants as package auth has
// them, or lists of filters under publish (or pub), subscribe (sub), all, deny.
func claimGrants(claim any) ([]auth.Grant, error) {
	switch x := claim.(type) {
	case nil:
		return nil, nil
	case []any:
		text, err := json.Marshal(x)
		if err != nil {
			return nil, err
		}
		var grants []auth.Grant
		return grants, json.Unmarshal(text, &grants)
	case map[string]any:
		var grants []auth.Grant
		for key, list := range x {
			g, ok := map[string]auth.Grant{
				"publish": {Allow: []string{"publish", "retain", "will"}}, "pub": {Allow: []string{"publish", "retain", "will"}},
				"subscribe": {Allow: []string{"subscribe"}}, "sub": {Allow: []string{"subscribe"}},
				"all": {Allow: []string{"publish", "retain", "will", "subscribe"}}, "deny": {Deny: true},
			}[key]
			if !ok {
				return nil, fmt.Errorf("jwt: rights %q: want publish, subscribe, all or deny", key)
			}
			filters, ok := list.([]any)
			if !ok {
				return nil, fmt.Errorf("jwt: rights %q: want a list", key)
			}
			for _, f := range filters {
				s, ok := f.(string)
				if !ok {
					return nil, fmt.Errorf("jwt: rights %q: want topic filters", key)
				}
				g.Topics = append(g.Topics, s)
			}
			if len(g.Topics) > 0 {
				grants = append(grants, g)
			}
		}
		return grants, nil
	default:
		return nil, errors.New("jwt: rights: want a list or an object")
	}
}
