// Package kinds is the set of Kubernetes types that Interlock reads from protobuf bodies: what the typed
// clients of the pinned modules can send. Out: one scheme, used by both commands, so that the table and the
// oracle that proves it cannot speak of different kinds.
package kinds

import (
	"reflect"
	"sort"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgo "k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiregistrationv1beta1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1beta1"
	custommetricsv1beta1 "k8s.io/metrics/pkg/apis/custom_metrics/v1beta1"
	custommetricsv1beta2 "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalmetricsv1beta1 "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	metricsv1alpha1 "k8s.io/metrics/pkg/apis/metrics/v1alpha1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// Modules are the modules whose versions the table is pinned to (the versions are those of go.mod).
var Modules = []string{
	"k8s.io/api",
	"k8s.io/apiextensions-apiserver",
	"k8s.io/apimachinery",
	"k8s.io/kube-aggregator",
	"k8s.io/metrics",
}

// Message is what every type with a protobuf form has.
type Message interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// Scheme holds every kind of the pinned modules.
func Scheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgo.AddToScheme,
		apiextensionsv1.AddToScheme, apiextensionsv1beta1.AddToScheme,
		apiregistrationv1.AddToScheme, apiregistrationv1beta1.AddToScheme,
		metricsv1alpha1.AddToScheme, metricsv1beta1.AddToScheme,
		custommetricsv1beta1.AddToScheme, custommetricsv1beta2.AddToScheme,
		externalmetricsv1beta1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	// The API server takes options and partial metadata in a group of their own too.
	meta := schema.GroupVersion{Group: metav1.GroupName, Version: "v1"}
	metav1.AddToGroupVersion(scheme, meta)
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		panic(err)
	}
	return scheme
}

// Kind is one kind that has a protobuf form.
type Kind struct {
	schema.GroupVersionKind
	Type reflect.Type
}

// All lists the kinds of the scheme that have a protobuf form, sorted, and those that have none. A type that
// cannot carry its own kind (WatchEvent) is in neither: it is no body.
func All(scheme *runtime.Scheme) (with []Kind, without []schema.GroupVersionKind) {
	for gvk, t := range scheme.AllKnownTypes() {
		if gvk.Version == runtime.APIVersionInternal {
			continue
		}
		object := reflect.New(t).Interface().(runtime.Object)
		object.GetObjectKind().SetGroupVersionKind(gvk)
		if object.GetObjectKind().GroupVersionKind() != gvk {
			continue
		}
		if _, ok := object.(Message); ok {
			with = append(with, Kind{gvk, t})
		} else {
			without = append(without, gvk)
		}
	}
	sort.Slice(with, func(i, j int) bool { return with[i].String() < with[j].String() })
	sort.Slice(without, func(i, j int) bool { return without[i].String() < without[j].String() })
	return with, without
}
