package engine

import (
	"time"

	"github.com/wheelmq/wheelmq/engine/hook"
)

// publishWill publishes cl's will, if it still has one, with the rights it has
// now. The will is gone then [MQTT-3.1.2-10]. Its expiry counts from here
// (B-will-props).
func (l *loop) publishWill(cl *client) {
	if cl.ext == nil || cl.ext.will == nil {
		return
	}
	w := cl.ext.will
	cl.ext.will = nil
	if cl.stored != 0 {
		l.keepSession(cl) // with the message of the will, in one batch
	}
	w.message.Publisher = cl.ClientID
	p := publication{}
	p.fromMessage(w.message, cl.ref)
	p.will = true
	if w.hasExpiry {
		w.message.Expires = l.now.Add(time.Duration(w.expiry) * time.Second)
		p.expires = w.message.Expires
	}
	if isSys(p.topic) || l.mayBeAsked(cl) && !l.mayWill(cl, &p) {
		l.drop(hook.DropNotAuthorized, nil, p.topic) // B-will-acl
	} else if l.asks&onPublish != 0 && l.interceptPublish(cl.identity(), nil, &p).Ends() {
		l.drop(hook.DropIntercepted, nil, p.topic)
	} else if who := cl.identity(); l.asks&onReview != 0 {
		l.review(who, &p, func(p *publication, out hook.Outcome) {
			if out.Ends() {
				l.drop(hook.DropIntercepted, nil, p.topic)
				return
			}
			l.sendWill(who, p)
		})
	} else {
		l.sendWill(who, &p)
	}
	l.done(&p)
}

// sendWill publishes p, who's will. It gives p's reference back if it took one.
func (l *loop) sendWill(who hook.Client, p *publication) {
	l.publish(p)
	if len(l.hooks.wills) > 0 {
		l.tellWill(who, p)
	}
	l.done(p)
}

// mayWill asks the authorizers about cl's will.
func (l *loop) mayWill(cl *client, p *publication) (allowed bool) {
	defer l.denyOnPanic(cl, &allowed)
	return l.may(cl, hook.PublishWill, p.topic) && (!p.retain || l.may(cl, hook.Retain, p.topic))
}
