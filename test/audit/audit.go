// Package audit compares what a program asked the API server for with what its
// roles grant. It exists so that roles are neither too small, by the API server's
// own log of all that happened, nor larger than they need be.
package audit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/test/lab"
)

// Account is the ServiceAccount of a program, whom roles are bound to.
type Account struct{ Namespace, Name string }

func (a Account) user() string { return "system:serviceaccount:" + a.Namespace + ":" + a.Name }

func (a Account) among(subjects []rbacv1.Subject) bool {
	return slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool {
		return s.Kind == rbacv1.ServiceAccountKind && s.Namespace == a.Namespace && s.Name == a.Name
	})
}

// right is to do one thing with one kind of resource. As a grant, a name and a
// namespace that are empty stand for all; as a request, for none in particular.
type right struct {
	verb, group, resource, name, namespace string
}

func (r right) String() string {
	s := r.verb + " " + strings.TrimSuffix(r.resource+"."+r.group, ".")
	if r.name != "" {
		s += " " + r.name
	}
	return s + " in " + cmp.Or(r.namespace, "all namespaces")
}

// covers reports whether the grant allows the request.
func (r right) covers(req right) bool {
	return r.verb == req.verb && r.group == req.group && r.resource == req.resource &&
		(r.name == "" || r.name == req.name) && (r.namespace == "" || r.namespace == req.namespace)
}

// needs reports whether the request is a reason for the grant. One for all
// namespaces is not needed for what the install's own has.
func (r right) needs(req right) bool {
	return r.covers(req) && (r.namespace != "" || req.namespace != lab.Namespace)
}

// Rights are what the roles of an account grant.
type Rights []right

// Granted returns what the roles that are bound to the account grant.
func Granted(ctx context.Context, api client.Client, account Account) (Rights, error) {
	var out Rights
	add := func(subjects []rbacv1.Subject, ref rbacv1.RoleRef, namespace string) error {
		if !account.among(subjects) {
			return nil
		}
		rules, err := rulesOf(ctx, api, ref, namespace)
		out = append(out, grants(rules, namespace)...)
		return err
	}
	var everywhere rbacv1.ClusterRoleBindingList
	if err := api.List(ctx, &everywhere); err != nil {
		return nil, err
	}
	for _, b := range everywhere.Items {
		if err := add(b.Subjects, b.RoleRef, ""); err != nil {
			return nil, err
		}
	}
	var local rbacv1.RoleBindingList
	if err := api.List(ctx, &local); err != nil {
		return nil, err
	}
	for _, b := range local.Items {
		if err := add(b.Subjects, b.RoleRef, b.Namespace); err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no role is bound to %s", account.user())
	}
	return out, nil
}

// rulesOf returns the rules of the role that a binding in the namespace refers to.
func rulesOf(ctx context.Context, api client.Client, ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	if ref.Kind == "ClusterRole" {
		var role rbacv1.ClusterRole
		err := api.Get(ctx, client.ObjectKey{Name: ref.Name}, &role)
		return role.Rules, err
	}
	var role rbacv1.Role
	err := api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref.Name}, &role)
	return role.Rules, err
}

// grants spells rules out.
func grants(rules []rbacv1.PolicyRule, namespace string) (out Rights) {
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					for _, name := range names {
						out = append(out, right{verb, group, resource, name, namespace})
					}
				}
			}
		}
	}
	return out
}

// auditEvent is what matters of a line of the API server's audit log.
type auditEvent struct {
	Verb string `json:"verb"`
	User struct {
		Username string `json:"username"`
	} `json:"user"`
	RequestURI string `json:"requestURI"`
	ObjectRef  *struct {
		APIGroup    string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// request returns what was asked for.
func (e *auditEvent) request() right {
	o := e.ObjectRef
	r := right{verb: e.Verb, group: o.APIGroup, resource: o.Resource, name: o.Name, namespace: o.Namespace}
	if o.Subresource != "" {
		r.resource += "/" + o.Subresource
	}
	return r
}

// streams reports whether the watch began with all there is, in place of a list.
// Against an API server that does not offer this the same client lists, so it
// needs that right too.
func (e *auditEvent) streams() bool {
	return e.Verb == "watch" && strings.Contains(e.RequestURI, "sendInitialEvents=true")
}

// Requests are what was asked for, and whether that was allowed.
type Requests map[right]bool

// Asked returns what the account asked the API server of a lab for, which must have
// been started with Options.Audit. What needs no right of a role, such as which
// kinds there are, is left out.
func Asked(l *lab.Lab, account Account) (Requests, error) {
	log, err := os.ReadFile(filepath.Join(l.Dir, "logs", "audit.log"))
	if err != nil {
		return nil, err
	}
	out := Requests{}
	for line := range bytes.Lines(log) {
		var e auditEvent
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("audit.log: %w", err)
		}
		if e.User.Username == account.user() {
			out.note(&e)
		}
	}
	return out, nil
}

func (r Requests) note(e *auditEvent) {
	allowed := e.ResponseStatus.Code != http.StatusForbidden
	switch {
	case e.ObjectRef != nil && e.ObjectRef.Resource != "":
		r.add(e.request(), allowed)
		if asked := e.request(); e.streams() {
			asked.verb = "list"
			r.add(asked, allowed)
		}
	case !allowed:
		r.add(right{verb: e.Verb, resource: e.RequestURI}, false)
	}
}

// add notes a request; what was refused once stays refused.
func (r Requests) add(what right, allowed bool) {
	before, seen := r[what]
	r[what] = allowed && (before || !seen)
}

// seldom is granted for what no test brings about: client-go patches an event when
// it is to tell the same of the same version of an object once more.
const seldom = "patch events.events.k8s.io in all namespaces"

// Missing says what was asked for, and refused or not granted.
func Missing(granted Rights, asked Requests) error {
	var wrong []string
	for r, allowed := range asked {
		switch {
		case !allowed:
			wrong = append(wrong, "forbidden: "+r.String())
		case !slices.ContainsFunc(granted, func(g right) bool { return g.covers(r) }):
			wrong = append(wrong, "used and not granted by its roles: "+r.String())
		}
	}
	return complain(wrong, granted, asked)
}

// Unused says what was granted and never asked for.
func Unused(granted Rights, asked Requests) error {
	var wrong []string
	used := slices.Collect(maps.Keys(asked))
	for _, g := range granted {
		if !slices.ContainsFunc(used, g.needs) && g.String() != seldom {
			wrong = append(wrong, "granted and not used: "+g.String())
		}
	}
	return complain(wrong, granted, asked)
}

func complain(wrong []string, granted Rights, asked Requests) error {
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return fmt.Errorf("of %d kinds of request and %d grants:\n%s", len(asked), len(granted), strings.Join(wrong, "\n"))
}
