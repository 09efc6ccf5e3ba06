// Command descriptors writes the table by which Interlock turns protobuf bodies into JSON.
//
// In: the Go types of the pinned modules (field numbers from their `protobuf` tags, JSON names, inlining and
// omission from their `json` tags) and the generated.proto files of the same modules.
// Out: JSON on stdout, the same bytes at every run.
// Rule: every message and field of the table is in generated.proto with the same number, name and type, or
// nothing is written; a type whose JSON is not what its tags say must be named in `special`, or nothing is
// written.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"

	"interlock/protobuf/kinds"
)

// special are the messages whose JSON form is their own; each is written out by hand in
// addons/interlock/kube/protobuf/forms.py.
var special = map[string]bool{
	"k8s.io.apimachinery.pkg.api.resource.Quantity":   true,
	"k8s.io.apimachinery.pkg.apis.meta.v1.Duration":   true,
	"k8s.io.apimachinery.pkg.apis.meta.v1.FieldsV1":   true,
	"k8s.io.apimachinery.pkg.apis.meta.v1.MicroTime":  true,
	"k8s.io.apimachinery.pkg.apis.meta.v1.Time":       true,
	"k8s.io.apimachinery.pkg.runtime.RawExtension":    true,
	"k8s.io.apimachinery.pkg.util.intstr.IntOrString": true,

	"k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSON":                              true,
	"k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray":            true,
	"k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool":             true,
	"k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray":      true,
	"k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1beta1.JSON":                         true,
	"k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1beta1.JSONSchemaPropsOrArray":       true,
	"k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1beta1.JSONSchemaPropsOrBool":        true,
	"k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1beta1.JSONSchemaPropsOrStringArray": true,
}

const timeType = "k8s.io.apimachinery.pkg.apis.meta.v1.Time"

// asTime are the messages whose fields generated.proto gives, and whose Go type has none of them.
var asTime = map[string][]protoField{
	"k8s.io.apimachinery.pkg.apis.meta.v1.Time":      {{1, "seconds", "int64", "one"}, {2, "nanos", "int32", "one"}},
	"k8s.io.apimachinery.pkg.apis.meta.v1.MicroTime": {{1, "seconds", "int64", "one"}, {2, "nanos", "int32", "one"}},
	"k8s.io.apimachinery.pkg.api.resource.Quantity":  {{1, "string", "string", "one"}},
}

// Field is one field of a message: [number, JSON name, type, shape, omission].
//
//	type      string bytes bool int32 int64 double, or the full name of a message
//	shape     one | list | map (of string to type) | inline (its fields are fields of this object)
//	omission  always    written even when it is zero
//	          empty     left out when Go's encoding/json calls it empty
//	          zero      a time, left out when it is the zero time
//	          absent    a pointer, left out when the message does not hold it
//	          null      a pointer, null when the message does not hold it
type Field struct {
	Number                      int
	JSON, Type, Shape, Omission string
}

func (f Field) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{f.Number, f.JSON, f.Type, f.Shape, f.Omission})
}

// Message is one message. Form is "object", "list" (a Go slice with a message of its own around it, whose one
// field is `items`) or "special".
type Message struct {
	Form   string  `json:"form"`
	Fields []Field `json:"fields"`
}

type table struct {
	Modules  map[string]string            `json:"modules"`
	Kinds    map[string]map[string]string `json:"kinds"`
	Messages map[string]*Message          `json:"messages"`
	protos   map[string][]protoField
}

func main() {
	t := table{map[string]string{}, map[string]map[string]string{}, map[string]*Message{}, readProtos()}
	build, _ := debug.ReadBuildInfo()
	for _, dep := range build.Deps {
		for _, name := range kinds.Modules {
			if dep.Path == name {
				t.Modules[name] = dep.Version
			}
		}
	}
	with, _ := kinds.All(kinds.Scheme())
	for _, kind := range with {
		version := kind.GroupVersion().String()
		if t.Kinds[version] == nil {
			t.Kinds[version] = map[string]string{}
		}
		t.Kinds[version][kind.Kind] = t.message(kind.Type)
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(t); err != nil {
		fail("%v", err)
	}
}

var (
	messageType   = reflect.TypeFor[kinds.Message]()
	marshalerType = reflect.TypeFor[json.Marshaler]()
)

func protoName(t reflect.Type) string {
	return strings.NewReplacer("/", ".", "-", "_").Replace(t.PkgPath()) + "." + t.Name()
}

// message adds the type (and what it holds) to the table and gives its full name.
func (t *table) message(goType reflect.Type) string {
	name := protoName(goType)
	if t.Messages[name] != nil {
		return name
	}
	m := &Message{Form: "object", Fields: []Field{}}
	t.Messages[name] = m
	switch {
	case special[name]:
		m.Form = "special"
	case goType.Kind() == reflect.Slice:
		m.Form = "list"
	case reflect.PointerTo(goType).Implements(marshalerType) && !promoted(goType):
		fail("%s has a JSON form of its own and is not in `special`", name)
	}
	switch {
	case asTime[name] != nil:
		for _, f := range asTime[name] {
			m.Fields = append(m.Fields, Field{f.number, f.name, f.kind, f.shape, "always"})
		}
	case goType.Kind() == reflect.Slice:
		kind, shape := t.kind(goType)
		m.Fields = append(m.Fields, Field{1, "items", kind, shape, "empty"})
	default:
		for i := range goType.NumField() {
			t.field(m, name, goType.Field(i))
		}
	}
	t.compare(name, m)
	return name
}

// promoted tells whether the type's MarshalJSON comes from an embedded field (none does at these versions).
func promoted(goType reflect.Type) bool { return false }

func (t *table) field(m *Message, in string, f reflect.StructField) {
	tag, ok := f.Tag.Lookup("protobuf")
	if !ok || tag == "-" {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name == "-" || name == "" && strings.Contains(f.Tag.Get("json"), ",inline") && f.Type.Name() == "TypeMeta" {
			return
		}
		if special[in] || !f.IsExported() {
			return
		}
		fail("%s.%s is in JSON and not in protobuf", in, f.Name)
	}
	parts := strings.Split(tag, ",")
	number, err := strconv.Atoi(parts[1])
	if err != nil {
		fail("%s.%s: %v", in, f.Name, err)
	}
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	pointer := f.Type.Kind() == reflect.Pointer
	goType := f.Type
	if pointer {
		goType = goType.Elem()
	}
	kind, shape := t.kind(goType)
	out := Field{number, name, kind, shape, "always"}
	omitempty := strings.Contains(options, "omitempty")
	switch {
	case special[in]:
		// the form is written by hand; only number, type and name matter
		for _, part := range parts {
			if after, ok := strings.CutPrefix(part, "name="); ok {
				out.JSON = after
			}
		}
	case strings.Contains(options, "omitzero") && !pointer && kind == timeType:
		out.Omission = "zero"
	case strings.Contains(options, "omitzero") || strings.Contains(options, "string"):
		fail("%s.%s: json option not known here: %s", in, f.Name, options)
	case name == "-":
		fail("%s.%s is in protobuf and not in JSON", in, f.Name)
	case name == "" && f.Anonymous && !pointer && shape == "one" && reflect.PointerTo(goType).Implements(messageType):
		out.JSON, out.Shape = "", "inline"
	case name == "":
		fail("%s.%s has no JSON name", in, f.Name)
	case pointer && omitempty:
		out.Omission = "absent"
	case pointer:
		out.Omission = "null"
	case omitempty:
		out.Omission = "empty"
	}
	if pointer && shape != "one" {
		fail("%s.%s: pointer to %s", in, f.Name, shape)
	}
	m.Fields = append(m.Fields, out)
}

// kind gives type and shape of a Go type in the words of Field.
func (t *table) kind(goType reflect.Type) (kind, shape string) {
	if reflect.PointerTo(goType).Implements(messageType) && goType.Kind() == reflect.Struct {
		return t.message(goType), "one"
	}
	if goType.Name() != "" && goType.Kind() == reflect.Slice && reflect.PointerTo(goType).Implements(messageType) {
		if t.Messages[protoName(goType)] == nil {
			return t.message(goType), "one"
		}
		// asked for by message() itself: what is in it; else the message
		if len(t.Messages[protoName(goType)].Fields) > 0 {
			return protoName(goType), "one"
		}
	}
	switch goType.Kind() {
	case reflect.String:
		return "string", "one"
	case reflect.Bool:
		return "bool", "one"
	case reflect.Int32:
		return "int32", "one"
	case reflect.Int64, reflect.Int:
		return "int64", "one"
	case reflect.Float64:
		return "double", "one"
	case reflect.Slice:
		if goType.Elem().Kind() == reflect.Uint8 {
			return "bytes", "one"
		}
		element := goType.Elem()
		if element.Kind() == reflect.Pointer {
			element = element.Elem()
		}
		kind, shape := t.kind(element)
		if shape != "one" {
			fail("%s: list of %s", goType, shape)
		}
		return kind, "list"
	case reflect.Map:
		if goType.Key().Kind() != reflect.String {
			fail("%s: key is not a string", goType)
		}
		kind, shape := t.kind(goType.Elem())
		if shape != "one" {
			fail("%s: map of %s", goType, shape)
		}
		return kind, "map"
	}
	fail("%s: no protobuf form known for it", goType)
	return "", ""
}

// ---- generated.proto -------------------------------------------------------------------------------------

type protoField struct {
	number            int
	name, kind, shape string
}

var (
	packageLine = regexp.MustCompile(`^package ([\w.]+);$`)
	messageLine = regexp.MustCompile(`^message (\w+) \{$`)
	fieldLine   = regexp.MustCompile(`^  (?:(optional|repeated) ([\w.]+)|map<string, ([\w.]+)>) (\w+) = (\d+);$`)
	mapLine     = regexp.MustCompile(`^  map<`)
)

// readProtos reads every generated.proto of the pinned modules: message name to fields.
func readProtos() map[string][]protoField {
	found := map[string][]protoField{}
	for _, module := range kinds.Modules {
		root := os.Getenv("MODULE_" + strings.NewReplacer(".", "_", "/", "_", "-", "_").Replace(module))
		if root == "" {
			fail("the folder of %s is not given (start this by scripts/protobuf-descriptors)", module)
		}
		err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
			if err == nil && entry.Name() == "generated.proto" {
				readProto(found, path)
			}
			return err
		})
		if err != nil {
			fail("%v", err)
		}
	}
	return found
}

func readProto(found map[string][]protoField, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		fail("%v", err)
	}
	var pkg, message string
	for _, line := range strings.Split(string(text), "\n") {
		if m := packageLine.FindStringSubmatch(line); m != nil {
			pkg = m[1]
		} else if m := messageLine.FindStringSubmatch(line); m != nil {
			message = pkg + "." + m[1]
			found[message] = []protoField{}
		} else if line == "}" {
			message = ""
		} else if m := fieldLine.FindStringSubmatch(line); m != nil {
			number, _ := strconv.Atoi(m[5])
			kind, shape := m[2], map[string]string{"optional": "one", "repeated": "list", "": "map"}[m[1]]
			if shape == "map" {
				kind = m[3]
			}
			found[message] = append(found[message], protoField{number, m[4], qualify(pkg, kind), shape})
		} else if code, _, _ := strings.Cut(line, "//"); message != "" && strings.TrimSpace(code) != "" && !strings.HasPrefix(strings.TrimSpace(code), "*") {
			fail("%s: line not understood: %s", path, line)
		}
	}
}

// qualify gives the full name of a type as it is named inside the package.
func qualify(pkg, kind string) string {
	switch kind {
	case "string", "bytes", "bool", "int32", "int64", "double":
		return kind
	}
	if strings.HasPrefix(kind, ".") {
		return kind[1:]
	}
	if strings.Contains(kind, ".") {
		return kind
	}
	return pkg + "." + kind
}

// compare fails when the message is not the one of generated.proto.
func (t *table) compare(name string, m *Message) {
	want, ok := t.protos[name]
	if !ok {
		fail("%s is in no generated.proto", name)
	}
	var a, b []string
	for _, f := range m.Fields {
		shape, kind := f.Shape, f.Type
		if shape == "inline" {
			shape = "one"
		}
		a = append(a, fmt.Sprintf("%d %s %s", f.Number, kind, shape))
	}
	for _, f := range want {
		b = append(b, fmt.Sprintf("%d %s %s", f.number, f.kind, f.shape))
	}
	sort.Strings(a)
	sort.Strings(b)
	if strings.Join(a, "\n") != strings.Join(b, "\n") {
		fail("%s: the Go type and generated.proto differ\n-- Go\n%s\n-- generated.proto\n%s", name, strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "descriptors: "+format+"\n", args...)
	os.Exit(1)
}
