"""The resources that the demo's API server knows: one table.

A row gives everything that discovery, routing and the store need; printer columns are in
`printing.py`. To add a resource, add a row.
"""

from dataclasses import dataclass
from typing import Any

type Object = dict[str, Any]
"""A Kubernetes object as decoded JSON. Objects in the store are never changed in place."""

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CREATE = ("create",)
READ_WRITE = ("get", "patch", "update")
CONNECT = ("create", "get")


@dataclass(frozen=True, slots=True)
class Subresource:
    """`kind` and `group_version` are those of the body, where they are not the parent's."""

    name: str
    verbs: tuple[str, ...]
    kind: str = ""
    group_version: str = ""


@dataclass(frozen=True, slots=True, eq=False)  # one row is one resource: compared and hashed by identity
class Resource:
    """One row of the table. `stored` is false for reviews, which are answered and forgotten."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[Subresource, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`deployments.apps`, as error messages name a resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def stored(self) -> bool:
        return self.verbs != CREATE

    def subresource(self, name: str) -> Subresource | None:
        return next((sub for sub in self.subresources if sub.name == name), None)


STATUS = Subresource("status", READ_WRITE)
SCALE = Subresource("scale", READ_WRITE, "Scale", "autoscaling/v1")
PROXY = Subresource("proxy", (*ALL_VERBS[:2], "get", "patch", "update"))

RESOURCES: tuple[Resource, ...] = (
    Resource("", "v1", "configmaps", "ConfigMap", short=("cm",)),
    Resource("", "v1", "endpoints", "Endpoints", short=("ep",)),
    Resource("", "v1", "events", "Event", short=("ev",)),
    Resource(
        "",
        "v1",
        "namespaces",
        "Namespace",
        namespaced=False,
        short=("ns",),
        subresources=(Subresource("finalize", ("update",)), STATUS),
        verbs=tuple(verb for verb in ALL_VERBS if verb != "deletecollection"),
    ),
    Resource("", "v1", "nodes", "Node", namespaced=False, short=("no",), subresources=(PROXY, STATUS)),
    Resource(
        "", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", short=("pvc",), subresources=(STATUS,)
    ),
    Resource(
        "",
        "v1",
        "persistentvolumes",
        "PersistentVolume",
        namespaced=False,
        short=("pv",),
        subresources=(STATUS,),
    ),
    Resource(
        "",
        "v1",
        "pods",
        "Pod",
        short=("po",),
        categories=("all",),
        subresources=(
            Subresource("attach", CONNECT, "PodAttachOptions"),
            Subresource("binding", CREATE, "Binding"),
            Subresource("ephemeralcontainers", READ_WRITE),
            Subresource("eviction", CREATE, "Eviction", "policy/v1"),
            Subresource("exec", CONNECT, "PodExecOptions"),
            Subresource("log", ("get",)),
            Subresource("portforward", CONNECT, "PodPortForwardOptions"),
            PROXY,
            Subresource("resize", READ_WRITE),
            STATUS,
        ),
    ),
    Resource("", "v1", "resourcequotas", "ResourceQuota", short=("quota",), subresources=(STATUS,)),
    Resource("", "v1", "secrets", "Secret"),
    Resource(
        "",
        "v1",
        "serviceaccounts",
        "ServiceAccount",
        short=("sa",),
        subresources=(Subresource("token", CREATE, "TokenRequest", "authentication.k8s.io/v1"),),
    ),
    Resource(
        "", "v1", "services", "Service", short=("svc",), categories=("all",), subresources=(PROXY, STATUS)
    ),
    Resource(
        "apps", "v1", "daemonsets", "DaemonSet", short=("ds",), categories=("all",), subresources=(STATUS,)
    ),
    Resource(
        "apps",
        "v1",
        "deployments",
        "Deployment",
        short=("deploy",),
        categories=("all",),
        subresources=(SCALE, STATUS),
    ),
    Resource(
        "apps",
        "v1",
        "replicasets",
        "ReplicaSet",
        short=("rs",),
        categories=("all",),
        subresources=(SCALE, STATUS),
    ),
    Resource(
        "apps",
        "v1",
        "statefulsets",
        "StatefulSet",
        short=("sts",),
        categories=("all",),
        subresources=(SCALE, STATUS),
    ),
    Resource(
        "authentication.k8s.io",
        "v1",
        "selfsubjectreviews",
        "SelfSubjectReview",
        namespaced=False,
        verbs=CREATE,
    ),
    Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False, verbs=CREATE),
    Resource(
        "authorization.k8s.io",
        "v1",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        namespaced=False,
        verbs=CREATE,
    ),
    Resource(
        "authorization.k8s.io",
        "v1",
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        namespaced=False,
        verbs=CREATE,
    ),
    Resource(
        "batch", "v1", "cronjobs", "CronJob", short=("cj",), categories=("all",), subresources=(STATUS,)
    ),
    Resource("batch", "v1", "jobs", "Job", categories=("all",), subresources=(STATUS,)),
    Resource("coordination.k8s.io", "v1", "leases", "Lease"),
    Resource("networking.k8s.io", "v1", "ingresses", "Ingress", short=("ing",), subresources=(STATUS,)),
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", short=("netpol",)),
    Resource(
        "policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", short=("pdb",), subresources=(STATUS,)
    ),
    Resource(
        "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
    ),
    Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False),
    Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
    Resource("rbac.authorization.k8s.io", "v1", "roles", "Role"),
)
