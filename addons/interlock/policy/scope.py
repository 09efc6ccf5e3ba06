"""Which resources are known to live outside namespaces.

A target does not tell a cluster-scoped resource (`/api/v1/nodes`) from a namespaced one over all namespaces
(`/api/v1/pods`). A deny on one namespace must match the latter and not the former. The rule: only what
Kubernetes itself serves, in a group that nobody else can serve, stands in this table; what does not is taken
for namespaced, so that a deny matches it. `namespaces` is left out on purpose: a list of them shows them all.

Source: kube-apiserver 1.36, `kubectl api-resources --namespaced=false`, with resources of versions that are
off by default from the `+genclient:nonNamespaced` marks of k8s.io/api.
"""

from __future__ import annotations

from typing import Final

CLUSTER_SCOPED: Final[frozenset[tuple[str, str]]] = frozenset(
    (group, resource)
    for group, resources in {
        "": ("componentstatuses", "nodes", "persistentvolumes"),
        "admissionregistration.k8s.io": (
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            "mutatingwebhookconfigurations",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "validatingwebhookconfigurations",
        ),
        "apiextensions.k8s.io": ("customresourcedefinitions",),
        "apiregistration.k8s.io": ("apiservices",),
        "authentication.k8s.io": ("selfsubjectreviews", "tokenreviews"),
        "authorization.k8s.io": (
            "selfsubjectaccessreviews",
            "selfsubjectrulesreviews",
            "subjectaccessreviews",
        ),
        "certificates.k8s.io": ("certificatesigningrequests", "clustertrustbundles"),
        "flowcontrol.apiserver.k8s.io": ("flowschemas", "prioritylevelconfigurations"),
        "internal.apiserver.k8s.io": ("storageversions",),
        "networking.k8s.io": ("ingressclasses", "ipaddresses", "servicecidrs"),
        "node.k8s.io": ("runtimeclasses",),
        "rbac.authorization.k8s.io": ("clusterrolebindings", "clusterroles"),
        "resource.k8s.io": (
            "deviceclasses",
            "devicetaintrules",
            "resourcepoolstatusrequests",
            "resourceslices",
        ),
        "scheduling.k8s.io": ("priorityclasses",),
        "storage.k8s.io": (
            "csidrivers",
            "csinodes",
            "storageclasses",
            "volumeattachments",
            "volumeattributesclasses",
        ),
        "storagemigration.k8s.io": ("storageversionmigrations",),
    }.items()
    for resource in resources
)
