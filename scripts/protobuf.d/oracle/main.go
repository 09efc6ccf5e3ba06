// Command oracle says what Go makes of bytes, for the tests to compare with.
//
//	oracle samples SEED COUNT [EACH]   one line a sample: {"proto": base64, "json": object}; COUNT of each kind,
//	                                   the first of them empty; with "types" as EACH one kind of each Go type
//	oracle protobuf                    base64 lines in, one line out for each: {"json": object} or {"error": text}
//	oracle yaml                        the same for YAML documents, read as the API server reads them
//	oracle encode                      base64 lines of JSON objects in, {"json": base64 of protobuf} out
//
// Rule: the JSON is that of the object that Go decoded from the very bytes of the line.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"reflect"
	"strconv"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	serializerjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"
	"sigs.k8s.io/yaml"

	"interlock/protobuf/kinds"
)

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	scheme := kinds.Scheme()
	serializer := protobuf.NewSerializer(scheme, scheme)
	switch {
	case len(os.Args) >= 4 && os.Args[1] == "samples":
		seed, err := strconv.ParseInt(os.Args[2], 10, 64)
		check(err)
		count, err := strconv.Atoi(os.Args[3])
		check(err)
		samples(out, scheme, serializer, seed, count, len(os.Args) > 4 && os.Args[4] == "types")
	case len(os.Args) == 2 && os.Args[1] == "protobuf":
		answers(out, func(data []byte) (json.RawMessage, error) {
			object, _, err := serializer.Decode(data, nil, nil)
			if err != nil {
				return nil, err
			}
			return json.Marshal(object)
		})
	case len(os.Args) == 2 && os.Args[1] == "yaml":
		answers(out, func(data []byte) (json.RawMessage, error) { return yaml.YAMLToJSONStrict(data) })
	case len(os.Args) == 2 && os.Args[1] == "encode":
		reader := serializerjson.NewSerializerWithOptions(serializerjson.DefaultMetaFactory, scheme, scheme, serializerjson.SerializerOptions{})
		answers(out, func(data []byte) (json.RawMessage, error) {
			object, _, err := reader.Decode(data, nil, nil)
			if err != nil {
				return nil, err
			}
			var proto bytes.Buffer
			err = serializer.Encode(object, &proto)
			text, _ := json.Marshal(proto.Bytes())
			return text, err
		})
	default:
		fmt.Fprintln(os.Stderr, "usage: oracle samples SEED COUNT [types] | oracle protobuf | oracle yaml | oracle encode")
		os.Exit(2)
	}
}

type answer struct {
	Proto []byte          `json:"proto,omitempty"`
	JSON  json.RawMessage `json:"json,omitempty"`
	Error string          `json:"error,omitempty"`
}

// answers reads base64 lines and writes what `of` says of each.
func answers(out *bufio.Writer, of func([]byte) (json.RawMessage, error)) {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		data, err := base64.StdEncoding.DecodeString(lines.Text())
		check(err)
		var a answer
		if a.JSON, err = of(data); err != nil {
			a = answer{Error: err.Error()}
		}
		check(json.NewEncoder(out).Encode(a))
	}
	check(lines.Err())
}

func samples(out *bufio.Writer, scheme *runtime.Scheme, serializer *protobuf.Serializer, seed int64, count int, types bool) {
	with, _ := kinds.All(scheme)
	done := map[reflect.Type]bool{}
	for _, kind := range with {
		if types && done[kind.Type] {
			continue
		}
		done[kind.Type] = true
		for i := range count {
			object, err := scheme.New(kind.GroupVersionKind)
			check(err)
			if i > 0 {
				filler(seed+int64(i), density(kind, i)).Fill(object)
			}
			object.GetObjectKind().SetGroupVersionKind(kind.GroupVersionKind)
			var data bytes.Buffer
			check(serializer.Encode(object, &data))
			decoded, _, err := serializer.Decode(data.Bytes(), nil, nil)
			check(err)
			text, err := json.Marshal(decoded)
			check(err)
			check(json.NewEncoder(out).Encode(answer{Proto: data.Bytes(), JSON: text}))
		}
	}
}

// density gives how likely a pointer is nil: full, half and sparse objects in turn. Schemas hold schemas in
// every field, and would grow to megabytes when full.
func density(kind kinds.Kind, round int) float64 {
	if kind.Group == "apiextensions.k8s.io" {
		return []float64{0.6, 0.75, 0.9}[round%3]
	}
	return []float64{0.05, 0.5, 0.9}[round%3]
}

// filler fills objects at random, with every special form in all its shapes.
func filler(seed int64, nilChance float64) *randfill.Filler {
	random := rand.New(rand.NewSource(seed))
	return randfill.New().RandSource(random).
		NilChance(nilChance).NumElements(0, 3).MaxDepth(14).
		Funcs(
			func(t *metav1.TypeMeta, c randfill.Continue) {},
			func(t *metav1.Time, c randfill.Continue) {
				if c.Intn(4) > 0 {
					t.Time = time.Unix(c.Int63n(4_000_000_000)-2_000_000_000, 0).UTC()
				}
			},
			func(t *metav1.MicroTime, c randfill.Continue) {
				if c.Intn(4) > 0 {
					t.Time = time.Unix(c.Int63n(300_000_000_000)-60_000_000_000, c.Int63n(2)*c.Int63n(1_000_000_000)).UTC()
				}
			},
			func(d *metav1.Duration, c randfill.Continue) {
				d.Duration = time.Duration(c.Int63() >> uint(c.Intn(63)))
				if c.Bool() {
					d.Duration = d.Duration.Truncate(time.Second)
				}
				if c.Bool() {
					d.Duration = -d.Duration
				}
			},
			func(q *resource.Quantity, c randfill.Continue) {
				format := []resource.Format{resource.DecimalSI, resource.BinarySI, resource.DecimalExponent}[c.Intn(3)]
				if c.Bool() {
					*q = *resource.NewMilliQuantity(c.Int63n(1_000_000_000)-500_000_000, format)
				} else {
					*q = *resource.NewQuantity(c.Int63()>>uint(c.Intn(63)), format)
				}
			},
			func(v *intstr.IntOrString, c randfill.Continue) {
				if c.Bool() {
					*v = intstr.FromInt32(c.Int31() - c.Int31())
				} else {
					*v = intstr.FromString(c.String(0))
				}
			},
			func(f *metav1.FieldsV1, c randfill.Continue) { f.Raw = rawJSON(c) },
			func(r *runtime.RawExtension, c randfill.Continue) { r.Raw = rawJSON(c) },
			func(j *apiextensionsv1.JSON, c randfill.Continue) { j.Raw = rawJSON(c) },
			func(j *apiextensionsv1beta1.JSON, c randfill.Continue) { j.Raw = rawJSON(c) },
			func(f *float64, c randfill.Continue) { *f = []float64{0, 1, -2.5, 1e21, 1e-7, c.Float64()}[c.Intn(6)] },
			func(n *int64, c randfill.Continue) { *n = (c.Int63() >> uint(c.Intn(63))) * int64(1-2*c.Intn(2)) },
		)
}

func rawJSON(c randfill.Continue) []byte {
	value := map[string]any{"text": c.String(0), "n": c.Int63() >> 11, "f": c.Float64(), "list": []any{nil, true, c.String(0)}}
	text, err := json.Marshal([]any{value, value["list"], "x", 7, nil}[c.Intn(5)])
	check(err)
	if c.Intn(8) == 0 {
		return nil
	}
	return text
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}
