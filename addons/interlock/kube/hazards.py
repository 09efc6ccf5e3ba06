"""Hazard classes: what a request can do beyond its verb.

In: a RequestInfo and the parsed body. Out: a set out of four classes, or the rows that gave them.

    connect       opens a channel into a container, a node or a service that cannot be judged beforehand
    escalation    gives the agent, or code that the agent chose, more rights than it has
    destructive   removes or stops something that may not come back
    secret-read   returns the content of a Secret or a credential, or mounts one for later

Rule: an allow's `*` leaves out connect and escalation, so a row that is missed is a door. What is not
understood counts towards a class: a body that is not there or has no known shape meets every condition, an
unknown subresource connects, an unknown verb meets every row of its resource.

`HAZARDS` is the whole of it: one row for each reason, looked up by group and resource, never by version.
What shows only in the object before and after (a PUT that leaves something out, a force-apply's query
parameter) cannot be seen from a request alone and is not in the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

from interlock.kube.target import RequestInfo

HazardClass = Literal["connect", "escalation", "destructive", "secret-read"]
CLASSES: tuple[HazardClass, ...] = ("connect", "escalation", "destructive", "secret-read")

ANY = ("*",)
READS = ("get", "list", "watch")
EDITS = ("create", "update", "patch")
CHANGES = ("update", "patch")
REMOVALS = ("delete", "deletecollection")
WRITES = EDITS + REMOVALS
RIGHTS = ("bind", "escalate", "impersonate")
KNOWN_VERBS = frozenset(READS + WRITES)

# API groups of Kubernetes itself (k8s.io/api v0.36, apiextensions, kube-aggregator, metrics). In `groups` of
# a row, CUSTOM stands for every group that is not here.
OWN_GROUPS = frozenset({
    "", "admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "apps",
    "authentication.k8s.io", "authorization.k8s.io", "autoscaling", "batch", "certificates.k8s.io",
    "coordination.k8s.io", "custom.metrics.k8s.io", "discovery.k8s.io", "events.k8s.io", "extensions",
    "external.metrics.k8s.io", "flowcontrol.apiserver.k8s.io", "internal.apiserver.k8s.io", "metrics.k8s.io",
    "networking.k8s.io", "node.k8s.io", "policy", "rbac.authorization.k8s.io", "resource.k8s.io",
    "scheduling.k8s.io", "storage.k8s.io", "storagemigration.k8s.io",
})  # fmt: skip
CUSTOM = "(custom)"

# Subresources that are known to be what their name says (pkg/registry/*/rest of kube-apiserver 1.36; a custom
# resource can have status and scale). In `resources` of a row, UNKNOWN stands for every other.
COMMON_SUBRESOURCES = frozenset({"status", "scale"})
KNOWN_SUBRESOURCES: dict[tuple[str, str], frozenset[str]] = {
    ("", "pods"): frozenset({
        "attach", "binding", "ephemeralcontainers", "eviction", "exec", "log", "portforward", "proxy", "resize",
    }),
    ("", "services"): frozenset({"proxy"}),
    ("", "nodes"): frozenset({"proxy"}),
    ("", "namespaces"): frozenset({"finalize"}),
    ("", "serviceaccounts"): frozenset({"token"}),
    ("certificates.k8s.io", "certificatesigningrequests"): frozenset({"approval"}),
}  # fmt: skip
# Groups whose subresources are names of measurements.
MEASURING_GROUPS = frozenset({"custom.metrics.k8s.io"})
UNKNOWN = "*/(unknown)"


@dataclass(frozen=True, slots=True)
class Hazard:
    """One row: a request that matches every column is of the class, for the reason.

    groups: API groups, `*`, `*.suffix` or CUSTOM. resources: `resource`, `resource/subresource`,
    `*/subresource`, UNKNOWN, or `*` for all of the groups' resources and subresources. when: a condition on
    the body, out of CONDITIONS, or None. namespaces: where it counts; `*` for everywhere.
    """

    hazard: HazardClass
    groups: tuple[str, ...]
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    reason: str
    when: str | None = None
    namespaces: tuple[str, ...] = ("*",)


# Controllers that act on what their resources say, with rights of their own.
OPERATOR_GROUPS = (
    # GitOps and packages: they apply whatever a repository, chart or bundle holds
    "argoproj.io", "*.argoproj.io", "fluxcd.io", "*.fluxcd.io", "fluxcd.controlplane.io", "*.weave.works",
    "*.cattle.io", "operators.coreos.com", "packages.operators.coreos.com", "*.operatorframework.io",
    "core.oam.dev", "kappctrl.k14s.io", "*.carvel.dev", "configmanagement.gke.io", "configsync.gke.io",
    "addons.cluster.x-k8s.io", "*.open-cluster-management.io", "*.karmada.io", "metacontroller.k8s.io",
    # infrastructure as code: they hold cloud credentials
    "crossplane.io", "*.crossplane.io", "*.upbound.io", "pulumi.com", "*.pulumi.com", "app.terraform.io",
    "infra.contrib.fluxcd.io", "*.cnrm.cloud.google.com", "*.services.k8s.aws", "*.azure.com",
    "cluster.x-k8s.io", "*.cluster.x-k8s.io", "karpenter.sh", "karpenter.k8s.aws", "crd.k8s.amazonaws.com",
    # pipelines: they run steps under service accounts that the resource names
    "tekton.dev", "*.tekton.dev", "*.jenkins.io", "actions.github.com", "actions.summerwind.dev", "kpack.io",
    "build.openshift.io", "shipwright.io",
    # admission, mutation, identity: they decide what others may do
    "kyverno.io", "*.kyverno.io", "*.gatekeeper.sh", "policies.kubewarden.io", "capsule.clastix.io",
    "hnc.x-k8s.io", "spire.spiffe.io", "aadpodidentity.k8s.io", "*.pinniped.dev", "dex.coreos.com",
    "authorization.openshift.io", "security.openshift.io", "security.internal.openshift.io",
    "oauth.openshift.io", "user.openshift.io", "config.openshift.io", "operator.openshift.io",
    "*.operator.openshift.io", "machine.openshift.io", "machineconfiguration.openshift.io",
    "project.openshift.io", "template.openshift.io", "security-profiles-operator.x-k8s.io",
    # secrets and certificates: they copy credentials to where the resource says
    "external-secrets.io", "*.external-secrets.io", "bitnami.com", "*.hashicorp.com",
    "secrets-store.csi.x-k8s.io", "cert-manager.io", "*.cert-manager.io", "secretgen.k14s.io",
    "secretgen.carvel.dev",
    # backups and virtual machines: they restore any object, or take a host's devices
    "velero.io", "*.kio.kasten.io", "stash.appscode.com", "kubevirt.io", "*.kubevirt.io",
    # traffic: they can lead another tenant's requests, credentials in them, to the agent
    "*.istio.io", "cilium.io", "*.projectcalico.org", "policy.networking.k8s.io", "*.linkerd.io",
    "gateway.envoyproxy.io", "submariner.io", "nmstate.io", "k8s.cni.cncf.io", "sriovnetwork.openshift.io",
)  # fmt: skip

TEMPLATES = ("apps", "batch", "extensions", CUSTOM)
SCALED = ("apps", "extensions", CUSTOM)
PODS = ("pods", "pods/ephemeralcontainers", "podtemplates", "replicationcontrollers")
CLUSTER_STORAGE = (
    "storageclasses", "csidrivers", "csinodes", "volumeattachments", "volumeattachments/status",
    "volumeattributesclasses", "volumesnapshotclasses", "volumesnapshotcontents",
    "volumesnapshotcontents/status", "volumegroupsnapshotclasses", "volumegroupsnapshotcontents",
)  # fmt: skip
DEVICES = ("deviceclasses", "resourceslices", "devicetaintrules", "resourceclaims/status")
STORAGE_GROUPS = ("storage.k8s.io", "snapshot.storage.k8s.io", "groupsnapshot.storage.k8s.io")
API_INTERNALS = ("flowcontrol.apiserver.k8s.io", "internal.apiserver.k8s.io", "storagemigration.k8s.io")
FORGEABLE = ("nodes/status", "pods/status", "services/status", "ingresses/status")
SYSTEM_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease")


HAZARDS: tuple[Hazard, ...] = (
    # connect
    Hazard("connect", ("",), ("pods/exec",), ANY,
           "runs a command in a container (exec, cp)"),
    Hazard("connect", ("",), ("pods/attach",), ANY,
           "joins the input and output of a running process"),
    Hazard("connect", ("",), ("pods/portforward",), ANY,
           "opens any port of a pod; the port is not in the URL"),
    Hazard("connect", ("",), ("pods/proxy", "services/proxy"), ANY,
           "speaks HTTP to a workload, past its ingress"),
    Hazard("connect", ("",), ("nodes/proxy",), ANY,
           "speaks to the kubelet, which runs commands in any container"),
    Hazard("connect", ("",), ("pods/ephemeralcontainers",), ANY,
           "adds a container to a running pod (debug)"),
    Hazard("connect", ANY, (UNKNOWN,), ANY,
           "a subresource that Kubernetes does not define may be a console, a shell or a tunnel"),
    # escalation: rights
    Hazard("escalation", ("rbac.authorization.k8s.io",), ANY, WRITES,
           "changes who may do what"),
    Hazard("escalation", ANY, ANY, RIGHTS,
           "gives rights that the caller does not have"),
    Hazard("escalation", ("",), ("serviceaccounts/token",), ANY,
           "issues a token of a service account (TokenRequest)"),
    Hazard("escalation", ("",), ("secrets",), EDITS,
           "a Secret of this type is filled with a token, or is a bootstrap token", when="mints_token"),
    Hazard("escalation", ("",), ("serviceaccounts",), EDITS,
           "ties a service account to an identity at a cloud provider", when="takes_cloud_identity"),
    Hazard("escalation", ("certificates.k8s.io",), ANY, WRITES,
           "requests, approves or signs a certificate, or changes whom clients trust"),
    Hazard("escalation", ("",), ("configmaps", "secrets"), WRITES,
           "configures the cluster itself (aws-auth, CoreDNS, client CAs, bootstrap tokens)",
           namespaces=SYSTEM_NAMESPACES),
    # escalation: the API server's own rules
    Hazard("escalation", ("admissionregistration.k8s.io",), ANY, WRITES,
           "webhooks and admission policies see every object, change it, or no longer stop it"),
    Hazard("escalation", ("apiextensions.k8s.io",), ANY, WRITES,
           "a definition's conversion webhook sees and rewrites every object of its kind"),
    Hazard("escalation", ("apiregistration.k8s.io",), ANY, WRITES,
           "an APIService receives all requests for a group"),
    Hazard("escalation", API_INTERNALS, ANY, WRITES,
           "decides whom the API server serves, and how it stores"),
    Hazard("escalation", ("policy", "extensions"), ("podsecuritypolicies",), WRITES,
           "decides which pods are admitted"),
    Hazard("escalation", ("",), ("namespaces", "namespaces/status", "namespaces/finalize"), EDITS,
           "namespace labels steer PodSecurity, webhooks and network policies", when="edits_labels"),
    Hazard("escalation", ("networking.k8s.io", "extensions"), ("networkpolicies",), WRITES,
           "opens or lifts the isolation between workloads"),
    # escalation: pods, nodes, storage
    Hazard("escalation", ("",), PODS, EDITS,
           "the pod leaves the PodSecurity baseline, picks its node or takes a service account",
           when="privileged_template"),
    Hazard("escalation", TEMPLATES, ANY, EDITS,
           "a pod template leaves the PodSecurity baseline, picks its node or takes a service account",
           when="privileged_template"),
    Hazard("escalation", ("resource.k8s.io",), ("resourceclaims", "resourceclaimtemplates"), EDITS,
           "a claim with adminAccess reaches devices that others use", when="privileged_template"),
    Hazard("escalation", ("resource.k8s.io",), DEVICES, WRITES,
           "decides which devices of a node pods get"),
    Hazard("escalation", ("",), ("persistentvolumes", "persistentvolumes/status"), WRITES,
           "a PersistentVolume can be a path of the host or another tenant's disk"),
    Hazard("escalation", STORAGE_GROUPS, CLUSTER_STORAGE, WRITES,
           "decides which driver, with which secrets, gives which storage"),
    Hazard("escalation", ("node.k8s.io",), ANY, WRITES,
           "a RuntimeClass chooses what isolates a container"),
    Hazard("escalation", ("",), ("nodes",), ("create",),
           "a node is given pods, and with them their secrets"),
    Hazard("escalation", ("",), ("nodes",), CHANGES,
           "a node's labels and annotations steer whose pods it gets, and its network", when="edits_labels"),
    Hazard("escalation", ("", "networking.k8s.io"), FORGEABLE, WRITES,
           "a forged address is where the API server and clients connect to"),
    Hazard("escalation", ("",), ("bindings", "pods/binding"), WRITES,
           "puts a pod on a node past the scheduler, its taints and affinities"),
    # escalation: traffic
    Hazard("escalation", ("",), ("services",), EDITS,
           "a service with external addresses takes their traffic (CVE-2020-8554)", when="takes_addresses"),
    Hazard("escalation", ("", "discovery.k8s.io"), ("endpoints", "endpointslices"), EDITS,
           "points a service, and what stands before it, at any address (CVE-2021-25740)"),
    Hazard("escalation", ("networking.k8s.io",), ("servicecidrs", "servicecidrs/status", "ipaddresses"), WRITES,
           "decides which addresses services get"),
    # escalation: controllers
    Hazard("escalation", OPERATOR_GROUPS, ANY, WRITES,
           "a controller acts on this resource with rights of its own"),
    # destructive
    Hazard("destructive", ANY, ANY, REMOVALS,
           "deletes"),
    Hazard("destructive", ANY, ("*/eviction",), WRITES,
           "evicts a pod (drain)"),
    Hazard("destructive", ("",), ("namespaces/finalize",), WRITES,
           "ends a namespace before its objects are cleaned up"),
    Hazard("destructive", ANY, ("*/scale",), CHANGES,
           "scales to nothing", when="scales_to_zero"),
    Hazard("destructive", ("",), ("replicationcontrollers",), CHANGES,
           "scales to nothing", when="scales_to_zero"),
    Hazard("destructive", SCALED, ANY, CHANGES,
           "scales to nothing", when="scales_to_zero"),
    Hazard("destructive", ("autoscaling",), ("horizontalpodautoscalers",), EDITS,
           "may scale to nothing", when="autoscales_to_zero"),
    Hazard("destructive", ("", "batch"), ("pods", "jobs"), CHANGES,
           "ends running pods: suspended, without parallelism, or past a deadline", when="ends_run"),
    Hazard("destructive", ("apps",), ("statefulsets",), EDITS,
           "deletes volume claims with the set or when it shrinks", when="deletes_claims"),
    Hazard("destructive", ("policy",), ("poddisruptionbudgets", "poddisruptionbudgets/status"), CHANGES,
           "a disruption budget is what limits evictions"),
    Hazard("destructive", ("scheduling.k8s.io",), ("priorityclasses",), WRITES,
           "pods of a higher class push out others"),
    Hazard("destructive", ("coordination.k8s.io",), ("leases",), WRITES,
           "a lease of the system is a node's heartbeat or a controller's leadership",
           namespaces=SYSTEM_NAMESPACES),
    Hazard("destructive", ("",), ("nodes",), CHANGES,
           "cordons or taints a node; a taint can evict its pods", when="steers_node"),
    Hazard("destructive", ("",), ("pods/resize",), CHANGES,
           "can restart or starve a container"),
    Hazard("destructive", ANY, ANY, CHANGES,
           "finalizers and ownerReferences decide what is deleted, and when", when="edits_lifecycle"),
    Hazard("destructive", ANY, ANY, ("patch",),
           "managedFields decide what a later apply removes", when="edits_managed_fields"),
    Hazard("destructive", ANY, ANY, CHANGES,
           "empties or replaces what the object holds (rollout undo)", when="removes_content"),
    # secret-read
    Hazard("secret-read", ANY, ("secrets",), READS + CHANGES + REMOVALS,
           "returns Secrets; an empty patch, a dry run and a delete do too"),
    Hazard("secret-read", ("",), ("serviceaccounts/token",), ANY,
           "returns a token"),
    Hazard("secret-read", ("",), PODS, EDITS,
           "a pod that mounts a Secret or has one in its environment can print it", when="takes_secrets"),
    Hazard("secret-read", TEMPLATES, ANY, EDITS,
           "a pod that mounts a Secret or has one in its environment can print it", when="takes_secrets"),
)  # fmt: skip

# Non-resource paths that an allow's `*` covers, in the words of RBAC's nonResourceURLs (the cluster roles
# system:discovery and system:public-info-viewer). Metrics, profiles, logs, configz, flagz, statusz and all
# others open to a rule that names them.
OPEN_NON_RESOURCE: tuple[str, ...] = (
    "/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/version", "/version/*",
    "/healthz", "/healthz/*", "/livez", "/livez/*", "/readyz", "/readyz/*",
)  # fmt: skip


def classify(info: RequestInfo, body: object | None) -> frozenset[HazardClass]:
    """The classes of a request; empty for one without hazard and for non-resource requests.

    body: the parsed object, or the list of operations of a JSON patch; None when there is none or it is not
    known, which counts towards every class whose row has a condition.
    """
    return frozenset([row.hazard for row in hazards(info, body)])


def hazards(info: RequestInfo, body: object | None) -> tuple[Hazard, ...]:
    """The rows of HAZARDS that a request matches, in the table's order. body: as for `classify`."""
    if not info.is_resource:
        return ()
    rows = _rows(info.api_group, info.resource, info.subresource, info.verb)
    if not rows:
        return ()
    views = _views(info.verb, body) if any(row.when for row in rows) else None
    return tuple(
        [
            row
            for row in rows
            if (row.namespaces == ANY or info.namespace in row.namespaces)
            and (row.when is None or views is None or CONDITIONS[row.when](info, views))
        ]
    )


def certain(info: RequestInfo) -> frozenset[HazardClass]:
    """The classes that a request has whatever its body: the answer to `may I create pods at all?`."""
    return frozenset([row.hazard for row in hazards(info, None) if row.when is None])


@lru_cache(maxsize=4096)
def _rows(group: str, resource: str, subresource: str, verb: str) -> tuple[Hazard, ...]:
    """The rows that match but for namespace and body. A verb or name that is not one matches all."""
    return tuple(
        [
            row
            for row in HAZARDS
            if (group == "*" or any(_is_group(pattern, group) for pattern in row.groups))
            and (resource == "*" or any(_is_resource(p, group, resource, subresource) for p in row.resources))
            and (row.verbs == ANY or verb in row.verbs or (verb not in KNOWN_VERBS and row.verbs != RIGHTS))
        ]
    )


def _is_group(pattern: str, group: str) -> bool:
    if pattern == CUSTOM:
        return group not in OWN_GROUPS
    return pattern in ("*", group) or (pattern.startswith("*.") and group.endswith(pattern[1:]))


def _is_resource(pattern: str, group: str, resource: str, subresource: str) -> bool:
    if pattern == "*":
        return True
    if pattern == UNKNOWN:
        return (
            subresource != ""
            and subresource not in COMMON_SUBRESOURCES
            and subresource not in KNOWN_SUBRESOURCES.get((group, resource), ())
            and group not in MEASURING_GROUPS
        )
    wanted, _, wanted_subresource = pattern.partition("/")
    return wanted in ("*", resource) and subresource in ("*", wanted_subresource)


# Bodies. A view is a mapping in the shape of the object: the object itself, a merge patch, or an operation of
# a JSON patch put where its path points to. Views that are None mean: not understood.

View = dict[str, Any]
Condition = Callable[[RequestInfo, "Views"], bool]
MISSING = object()
DATA = ("data", "stringData", "binaryData")
MAX_POINTER = 64  # tokens of a JSON pointer; the deepest in Kubernetes' own types has about 20


# Maps of text to text, whose keys are the user's own words.
_TEXT_MAPS = frozenset({"labels", "matchLabels", "nodeSelector", "annotations", "selector"})


class Views(tuple[View, ...]):
    """All views of a body."""

    @cached_property
    def marked(self) -> list[tuple[str, Any]]:
        """The fields of PRIVILEGES and SECRETS, and the directive $patch, with their values, however deep they stand."""
        found: list[tuple[str, Any]] = []
        stack: list[Any] = list(self)
        while stack:
            node = stack.pop()
            if isinstance(node, list):
                stack.extend(node)
            elif isinstance(node, dict):
                for key, value in node.items():
                    if key in MARKED:
                        found.append((key, value))
                    if isinstance(value, list) or (
                        isinstance(value, dict)
                        and not (key in _TEXT_MAPS and all(isinstance(text, str) for text in value.values()))
                    ):
                        stack.append(value)
        return found


def _views(verb: str, body: object | None) -> Views | None:
    if isinstance(body, dict):
        metadata = body.get("metadata")
        if verb == "patch" and (_directs(body) or (isinstance(metadata, dict) and _directs(metadata))):
            return None  # a strategic merge that replaces the object says what stays, not what goes
        return Views((body,))
    if isinstance(body, list) and verb == "patch":
        views = []
        for operation in body:
            view = _operation(operation)
            if view is None:
                return None
            views.append(view)
        return Views(views)
    return None


def _directs(mapping: View) -> bool:
    return "$patch" in mapping or "$retainKeys" in mapping


def _operation(operation: object) -> View | None:
    """One operation of a JSON patch (RFC 6902) as a view, {} if it writes nothing, None if it is not understood."""
    if not isinstance(operation, dict):
        return None
    kind, path = operation.get("op"), operation.get("path")
    value: Any
    if kind == "test":
        return {}
    if kind in ("add", "replace") and "value" in operation:
        value = operation["value"]
    elif kind == "remove":
        value = None
    else:  # what copy and move write, only the stored object shows
        return None
    if path == "":
        return {**value, "$patch": "replace"} if isinstance(value, dict) else None
    if not isinstance(path, str) or not path.startswith("/") or path.count("/") > MAX_POINTER:
        return None
    tokens = [token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:]]
    if isinstance(value, dict) and tokens[0] in ("spec", *DATA) and not _is_index(tokens[-1]):
        value = {**value, "$patch": "replace"}
    for token in reversed(tokens[1:]):
        value = [value] if _is_index(token) else {token: value}
    return {tokens[0]: value}


def _is_index(token: str) -> bool:
    """Whether a token is a place in a list. (In a map it is a key that no condition looks for.)"""
    return token == "-" or (token.isascii() and token.isdigit())


def _at(view: View, *path: str) -> Any:
    """The value at a path; MISSING where the view does not speak of it, None where it removes what is above."""
    value: Any = view
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key, MISSING)
        if value is MISSING:
            return MISSING
    return value


def _sets_metadata(views: Views, *fields: str) -> bool:
    """Whether a view sets one of these metadata fields; `$deleteFromPrimitiveList/F` and its like set F."""
    for view in views:
        metadata = view.get("metadata", MISSING)
        if metadata is MISSING:
            continue
        if not isinstance(metadata, dict) or any(key.rpartition("/")[2] in fields for key in metadata):
            return True
    return False


def _annotates(views: Views, prefixes: tuple[str, ...]) -> bool:
    """Whether a view sets an annotation that begins so, or sets the annotations to what is no mapping."""
    for view in views:
        annotations = _at(view, "metadata", "annotations")
        if annotations is MISSING or annotations is None:
            continue
        if not isinstance(annotations, dict) or any(key.startswith(prefixes) for key in annotations):
            return True
    return False


# Conditions on pods and their templates, wherever they stand in an object: the fields that the baseline of the
# Pod Security Standards restricts (k8s.io/pod-security-admission v0.36, policy/check_*.go), and those that
# choose the node or the service account. By field: whether its value counts.

_CAPABILITIES = frozenset({
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
})  # fmt: skip
_SELINUX_TYPES = (None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_SYSCTLS = frozenset({
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
})  # fmt: skip
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


def _other_than(*harmless: object) -> Callable[[Any], bool]:
    return lambda value: value not in harmless


def _adds_capability(value: Any) -> bool:
    added = value.get("add") if isinstance(value, dict) else value
    if added is None:
        return False
    return not isinstance(added, list) or any(not isinstance(c, str) or c not in _CAPABILITIES for c in added)


def _is_unconfined(value: Any) -> bool:
    return value is not None and (not isinstance(value, dict) or value.get("type") == "Unconfined")


def _relabels(value: Any) -> bool:
    if value is None:
        return False
    return not isinstance(value, dict) or bool(
        value.get("type") not in _SELINUX_TYPES or value.get("user") or value.get("role")
    )


def _sets_kernel(value: Any) -> bool:
    if value is None:
        return False
    return not isinstance(value, list) or any(
        not isinstance(sysctl, dict) or sysctl.get("name", "kernel.shm_rmid_forced") not in _SYSCTLS
        for sysctl in value
    )


def _reaches_host(value: Any) -> bool:
    return isinstance(value, dict) and value.get("host") not in (None, "")


def _lifts_apparmor(value: Any) -> bool:
    return isinstance(value, dict) and any(
        key.startswith(_APPARMOR)
        and text not in ("", "runtime/default")
        and not str(text).startswith("localhost/")
        for key, text in value.items()
    )


PRIVILEGES: dict[str, Callable[[Any], bool]] = {
    "privileged": _other_than(None, False),
    "hostNetwork": _other_than(None, False),
    "hostPID": _other_than(None, False),
    "hostIPC": _other_than(None, False),
    "hostProcess": _other_than(None, False),
    "hostPort": _other_than(None, 0),
    "hostPath": _other_than(None),
    "flexVolume": _other_than(None),
    "gitRepo": _other_than(None),
    "procMount": _other_than(None, "", "Default"),
    "capabilities": _adds_capability,
    "seccompProfile": _is_unconfined,
    "appArmorProfile": _is_unconfined,
    "seLinuxOptions": _relabels,
    "sysctls": _sets_kernel,
    "httpGet": _reaches_host,
    "tcpSocket": _reaches_host,
    "annotations": _lifts_apparmor,
    "nodeName": _other_than(None, ""),
    "serviceAccountName": _other_than(None, "", "default"),
    "serviceAccount": _other_than(None, "", "default"),
    "adminAccess": _other_than(None, False),
}
SECRETS: dict[str, Callable[[Any], bool]] = {
    "secret": _other_than(None),
    "secretRef": _other_than(None),
    "secretKeyRef": _other_than(None),
    "nodePublishSecretRef": _other_than(None),
    "serviceAccountToken": _other_than(None),
    "podCertificate": _other_than(None),
}


MARKED = frozenset({*PRIVILEGES, *SECRETS, "$patch"})


def _privileged_template(info: RequestInfo, views: Views) -> bool:
    return any(key in PRIVILEGES and PRIVILEGES[key](value) for key, value in views.marked)


def _takes_secrets(info: RequestInfo, views: Views) -> bool:
    return any(key in SECRETS and SECRETS[key](value) for key, value in views.marked)


# Conditions on other objects


def _mints_token(info: RequestInfo, views: Views) -> bool:
    types = [_at(view, "type") for view in views]
    return any(kind in TOKEN_TYPES for kind in types) or _annotates(
        views, ("kubernetes.io/service-account.",)
    )


TOKEN_TYPES = ("kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token")


def _takes_cloud_identity(info: RequestInfo, views: Views) -> bool:
    return _annotates(views, CLOUD_IDENTITY)


CLOUD_IDENTITY = ("eks.amazonaws.com/", "iam.gke.io/", "azure.workload.identity/", "iam.amazonaws.com/")


def _edits_labels(info: RequestInfo, views: Views) -> bool:
    if info.verb == "create":
        return any(_at(view, "metadata", "labels") not in (MISSING, None, {}) for view in views)
    if info.verb == "update":
        return True  # what a replacement leaves out is removed
    # An apply removes what it applied before and leaves out now; it is the patch that names its kind.
    return (
        any("kind" in view or "apiVersion" in view for view in views)
        or _sets_metadata(views, "labels")
        or (info.resource == "nodes" and _sets_metadata(views, "annotations"))
    )


def _takes_addresses(info: RequestInfo, views: Views) -> bool:
    return any(_at(view, "spec", "externalIPs") not in (MISSING, None, []) for view in views)


def _below_one(value: object) -> bool:
    return not (isinstance(value, (int, float)) and value >= 1)


def _scales_to_zero(info: RequestInfo, views: Views) -> bool:
    for view in views:
        replicas = _at(view, "spec", "replicas")
        if replicas is not MISSING:
            if _below_one(replicas):
                return True
        elif info.subresource == "scale" and (info.verb == "update" or "spec" in view):
            return True  # a Scale without replicas is one of zero
    return False


def _autoscales_to_zero(info: RequestInfo, views: Views) -> bool:
    least = [_at(view, "spec", "minReplicas") for view in views]
    return any(found not in (MISSING, None) and _below_one(found) for found in least)


def _ends_run(info: RequestInfo, views: Views) -> bool:
    for view in views:
        parallelism = _at(view, "spec", "parallelism")
        if (
            _at(view, "spec", "suspend") not in (MISSING, None, False)
            or (parallelism not in (MISSING, None) and _below_one(parallelism))
            or any(_at(view, "spec", key) not in (MISSING, None) for key in DEADLINES)
        ):
            return True
    return False


DEADLINES = ("activeDeadlineSeconds", "ttlSecondsAfterFinished")


def _deletes_claims(info: RequestInfo, views: Views) -> bool:
    for view in views:
        policy = _at(view, "spec", "persistentVolumeClaimRetentionPolicy")
        if isinstance(policy, dict) and "Delete" in policy.values():
            return True
    return False


def _steers_node(info: RequestInfo, views: Views) -> bool:
    if info.verb == "update":
        return True  # what a replacement leaves out is removed
    for view in views:
        spec = view.get("spec", MISSING)
        if spec is MISSING:
            continue
        if not isinstance(spec, dict) or _directs(spec):
            return True
        if any(key.rpartition("/")[2] in ("taints", "unschedulable") for key in spec):
            return True
    return False


def _edits_lifecycle(info: RequestInfo, views: Views) -> bool:
    return _sets_metadata(views, "finalizers", "ownerReferences")


def _edits_managed_fields(info: RequestInfo, views: Views) -> bool:
    return _sets_metadata(views, "managedFields")


def _removes_content(info: RequestInfo, views: Views) -> bool:
    if info.verb == "update":
        keeps = info.api_group != "" or info.resource not in ("configmaps", "secrets")
        return not (keeps or any(view.get(key) for view in views for key in DATA))
    for view in views:
        for key in ("spec", *DATA):
            held = view.get(key, MISSING)
            if held is not MISSING and (
                not held or (key != "spec" and isinstance(held, dict) and None in held.values())
            ):
                return True
    return ("$patch", "replace") in views.marked


CONDITIONS: dict[str, Condition] = {
    "autoscales_to_zero": _autoscales_to_zero,
    "deletes_claims": _deletes_claims,
    "edits_labels": _edits_labels,
    "edits_lifecycle": _edits_lifecycle,
    "edits_managed_fields": _edits_managed_fields,
    "ends_run": _ends_run,
    "mints_token": _mints_token,
    "privileged_template": _privileged_template,
    "removes_content": _removes_content,
    "scales_to_zero": _scales_to_zero,
    "steers_node": _steers_node,
    "takes_addresses": _takes_addresses,
    "takes_cloud_identity": _takes_cloud_identity,
    "takes_secrets": _takes_secrets,
}
