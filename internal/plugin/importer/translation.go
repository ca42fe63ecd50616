package importer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// object is one that comes out: a kind of Fairlead's, or a Secret.
type object interface {
	metav1.Object
	runtime.Object
}

// translation is what an importer makes of the objects that it was given.
type translation struct {
	remarks []string // about all of it
	items   []*item
}

// item is what became of one object, or of a part of one.
type item struct {
	from    string   // "IPAddressPool metallb-system/lan"
	object  object   // nil: nothing in Fairlead corresponds to it
	refused bool     // nothing can come of it
	remarks []string // what differs and what to do, each with the object and the field
}

// add begins an item. Its object may follow.
func (t *translation) add(o *unstructured.Unstructured) *item {
	i := &item{from: title(o)}
	t.items = append(t.items, i)
	return i
}

func title(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return o.GetKind() + " " + o.GetName()
	}
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}

// note remarks on a field, if anything comes of the item.
func (i *item) note(field, format string, args ...any) {
	if !i.refused {
		i.remark(field, format, args...)
	}
}

// refuse says why nothing comes of the item.
func (i *item) refuse(field, format string, args ...any) {
	i.refused = true
	i.remark(field, "not imported: "+format, args...)
}

func (i *item) remark(field, format string, args ...any) {
	i.remarks = append(i.remarks, fmt.Sprintf("%s: %s: %s", i.from, field, fmt.Sprintf(format, args...)))
}

// give sets what comes of the item, unless that was refused.
func (i *item) give(o object) {
	if !i.refused {
		i.object = o
	}
}

// named returns what all objects begin with.
func named(kind, name string) (metav1.TypeMeta, metav1.ObjectMeta) {
	return metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: kind}, metav1.ObjectMeta{Name: name}
}

// order is that of the output: what is referred to comes before what refers to it.
var order = []string{"Secret", "BFDProfile", "Community", "BGPPeer", "IPAddressPool", "BGPAdvertisement", "L2Advertisement"}

// sort orders the items by kind and name, those without an object last.
func (t *translation) sort() {
	rank := func(i *item) (int, string) {
		if i.object == nil {
			return len(order), i.from
		}
		return slices.Index(order, kindOf(i.object)), i.object.GetName()
	}
	slices.SortStableFunc(t.items, func(a, b *item) int {
		ra, na := rank(a)
		rb, nb := rank(b)
		return cmp.Or(cmp.Compare(ra, rb), cmp.Compare(na, nb))
	})
}

func kindOf(o object) string { return o.GetObjectKind().GroupVersionKind().Kind }

// decode reads the spec of an object. What the importer does not know is remarked
// upon, so that nothing is dropped in silence. It reports whether the spec could
// be read.
func decode[T any](o *unstructured.Unstructured, i *item) (T, bool) {
	var holder struct {
		Spec T `json:"spec"`
	}
	content := map[string]any{"spec": o.Object["spec"]}
	if content["spec"] == nil {
		content["spec"] = map[string]any{}
	}
	err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(content, &holder, true)
	if unknown, ok := runtime.AsStrictDecodingError(err); ok {
		for _, e := range unknown.Errors() {
			field := strings.Trim(strings.TrimPrefix(e.Error(), "unknown field "), `"`)
			i.note(field, "not known to this importer; if it matters to you, look for its counterpart in Fairlead's %s", o.GetKind())
		}
		err = nil
	}
	if err != nil {
		i.refuse("spec", "it cannot be read (%v); fix it and import it again", err)
	}
	return holder.Spec, err == nil
}

// selectors translates label selectors, which mean the same in Fairlead.
func selectors(list []metav1.LabelSelector) (out []v1alpha1.LabelSelector) {
	for i := range list {
		out = append(out, selector(&list[i]))
	}
	return out
}

func selector(s *metav1.LabelSelector) (out v1alpha1.LabelSelector) {
	for k, v := range s.MatchLabels {
		if out.MatchLabels == nil {
			out.MatchLabels = map[string]v1alpha1.LabelValue{}
		}
		out.MatchLabels[k] = v1alpha1.LabelValue(v)
	}
	for _, e := range s.MatchExpressions {
		out.MatchExpressions = append(out.MatchExpressions, v1alpha1.LabelSelectorRequirement{
			Key: v1alpha1.LabelKey(e.Key), Operator: v1alpha1.LabelSelectorOperator(e.Operator), Values: texts[v1alpha1.LabelValue](e.Values),
		})
	}
	return out
}

// texts changes the type of strings, and leaves out repetitions, which Fairlead's
// lists do not have.
func texts[To, From ~string](list []From) (out []To) {
	for _, s := range list {
		if !slices.Contains(out, To(s)) {
			out = append(out, To(s))
		}
	}
	return out
}
