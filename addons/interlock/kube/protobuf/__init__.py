"""Kubernetes protobuf bodies: the bytes that typed clients send in, the object that they mean as JSON out.

In: `k8s\\0` and a runtime.Unknown envelope. Out: the dict that Go's JSON encoder gives for the same typed
object. The messages are data (`table.json.gz`, written by scripts/protobuf-descriptors and proved against
the Go types by scripts/protobuf-oracle).
Rule: a kind, a field, a wire type or a value that the table does not know is refused, never skipped; so what
is checked is all that was sent.
"""

from interlock.kube.protobuf.table import load as preload
from interlock.kube.protobuf.wire import BadProtobuf, decode

__all__ = ["BadProtobuf", "decode", "preload"]
