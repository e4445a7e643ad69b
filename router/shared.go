package router

import (
	"slices"
	"strings"
)

// manyGroups is the number of groups at one node from which on they are found by a map.
const manyGroups = 16

// SubscribeShared makes s a member of the group of (shareName, filter), or replaces the member that the same
// session is there. The filter is the part behind the share name. A group keeps the strategy of its first
// member.
func (r *Router) SubscribeShared(shareName, filter string, strategy Strategy, s Subscription) (m *Member, existed bool) {
	r.checkLoop(s.Loop)
	m = &Member{Subscriber: s.subscriber(), Loop: s.Loop}
	version, sh := r.versionOf(filter), r.shardOf(filter)
	sh.lock()
	f := sh.insert(r, filter).ensureFan()
	g := f.group(shareName)
	if g == nil {
		g = f.addGroup(shareName, strategy)
		r.versions.bump(version)
	}
	old := g.find(s.Loop, s.Ref)
	if old == nil {
		g.add(m)
	} else {
		g.replace(old, m)
	}
	sh.mu.Unlock()
	if old == nil {
		r.shared.Add(1)
	}
	return m, old != nil
}

// UnsubscribeShared takes (loop, ref) out of the group. An empty group is removed.
func (r *Router) UnsubscribeShared(shareName, filter string, loop int, ref Ref) bool {
	r.checkLoop(loop)
	version, sh := r.versionOf(filter), r.shardOf(filter)
	sh.lock()
	defer sh.mu.Unlock()
	n, g, m := sh.findMember(r, shareName, filter, loop, ref)
	if m == nil {
		return false
	}
	g.remove(m)
	if g.count == 0 {
		n.fan().removeGroup(g)
		n.tidy()
		sh.prune()
		r.versions.bump(version)
	}
	r.shared.Add(-1)
	return true
}

// MoveShared re-points the member (fromLoop, from) to (toLoop, to) and keeps its options, state and count in
// flight: every pick sees exactly one of the two. If (toLoop, to) is a member already, that one leaves. It
// returns the new Member, nil if there is no such member.
func (r *Router) MoveShared(shareName, filter string, fromLoop int, from Ref, toLoop int, to Ref) *Member {
	r.checkLoop(fromLoop)
	r.checkLoop(toLoop)
	sh := r.shardOf(filter)
	sh.lock()
	defer sh.mu.Unlock()
	_, g, old := sh.findMember(r, shareName, filter, fromLoop, from)
	if old == nil {
		return nil
	}
	if other := g.find(toLoop, to); other != nil && other != old {
		g.remove(other)
		r.shared.Add(-1)
	}
	m := &Member{Subscriber: old.Subscriber, Loop: toLoop}
	m.Ref = to
	g.replace(old, m)
	return m
}

// findMember returns the member with its group and node; m is nil if there is none.
func (s *shard) findMember(r *Router, shareName, filter string, loop int, ref Ref) (n *node, g *Group, m *Member) {
	if n = s.find(r, filter); n == nil || n.fan() == nil {
		return nil, nil, nil
	}
	if g = n.fan().group(shareName); g == nil {
		return nil, nil, nil
	}
	return n, g, g.find(loop, ref)
}

// group returns the group with that share name, or nil.
func (f *fan) group(shareName string) *Group {
	if f.named != nil {
		return f.named[shareName]
	}
	for _, g := range f.groups {
		if g.shareName == shareName {
			return g
		}
	}
	return nil
}

func (f *fan) addGroup(shareName string, strategy Strategy) *Group {
	g := &Group{shareName: strings.Clone(shareName), strategy: strategy}
	f.groups = append(f.groups, g)
	if f.named == nil && len(f.groups) > manyGroups {
		f.named = make(map[string]*Group)
		for _, g := range f.groups {
			f.named[g.shareName] = g
		}
	} else if f.named != nil {
		f.named[g.shareName] = g
	}
	return g
}

func (f *fan) removeGroup(g *Group) {
	i := slices.Index(f.groups, g)
	f.groups = slices.Concat(f.groups[:i], f.groups[i+1:])
	if len(f.groups) <= manyGroups {
		f.named = nil
	} else {
		delete(f.named, g.shareName)
	}
}
