"""Generated request targets for the differential test against the real API server.

`generate(seed, count)` gives `count` pairs of method and raw target, the same for the same seed: well-formed
ones over many resources, verbs and parameters, and mutations of them. Writes are harmless whatever the server
makes of them: they name what does not exist (`ghost-…`), or are dry runs, and are sent without a body.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from interlock.kube.target import Target

Choice = list[tuple[str, int]]

CORE = [
    "bindings", "componentstatuses", "configmaps", "endpoints", "events", "limitranges", "namespaces", "nodes",
    "persistentvolumeclaims", "persistentvolumes", "pods", "podtemplates", "replicationcontrollers",
    "resourcequotas", "secrets", "serviceaccounts", "services",
]  # fmt: skip
GROUPS = {
    "admissionregistration.k8s.io/v1": ["validatingwebhookconfigurations", "validatingadmissionpolicies"],
    "apiextensions.k8s.io/v1": ["customresourcedefinitions"],
    "apiregistration.k8s.io/v1": ["apiservices"],
    "apps/v1": ["controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets"],
    "apps/v1beta1": ["deployments"],
    "authentication.k8s.io/v1": ["tokenreviews", "selfsubjectreviews"],
    "authorization.k8s.io/v1": [
        "selfsubjectaccessreviews",
        "selfsubjectrulesreviews",
        "subjectaccessreviews",
    ],
    "autoscaling/v1": ["horizontalpodautoscalers"],
    "autoscaling/v2": ["horizontalpodautoscalers"],
    "batch/v1": ["cronjobs", "jobs"],
    "certificates.k8s.io/v1": ["certificatesigningrequests"],
    "coordination.k8s.io/v1": ["leases"],
    "discovery.k8s.io/v1": ["endpointslices"],
    "events.k8s.io/v1": ["events"],
    "extensions/v1beta1": ["ingresses", "deployments"],
    "metrics.k8s.io/v1beta1": ["pods", "nodes"],
    "custom.metrics.k8s.io/v1beta1": ["pods", "metrics"],
    "networking.k8s.io/v1": ["ingresses", "networkpolicies"],
    "policy/v1": ["poddisruptionbudgets"],
    "rbac.authorization.k8s.io/v1": ["clusterroles", "clusterrolebindings", "roles", "rolebindings"],
    "resource.k8s.io/v1": ["resourceclaims"],
    "storage.k8s.io/v1": ["storageclasses", "volumeattachments"],
    "argoproj.io/v1alpha1": ["applications"],
    "example.com/v1": ["widgets", "watch", "namespaces", "proxy"],
}
SUBRESOURCES = [
    "status", "scale", "log", "exec", "attach", "portforward", "proxy", "eviction", "binding", "token",
    "ephemeralcontainers", "resize", "finalize", "approval", "status/more", "unknown", "pods", "namespaces",
]  # fmt: skip
NON_RESOURCE = [
    "/", "/api", "/api/", "/api/v1", "/api/v1/", "/api/v2", "/apis", "/apis/", "/apis/apps", "/apis/apps/v1",
    "/apis/example.com/v1", "/version", "/version/", "/healthz", "/healthz/etcd", "/livez", "/livez/ping",
    "/readyz", "/readyz/ping", "/metrics", "/metrics/slis", "/logs", "/logs/x", "/configz", "/flagz", "/statusz",
    "/debug/pprof/cmdline", "/openid/v1/jwks", "/.well-known/openid-configuration", "/openapi/v3", "/ui", "/ui/a/b",
    "/apis/watch", "/api/watch", "/api/proxy", "/apis/v1/proxy", "/API/v1/pods", "/apix/v1/pods", "/api/v1//",
]  # fmt: skip
REAL_NAMESPACES = ["default", "kube-system", "kube-public"]
GHOST_NAMESPACES = [f"ghost-{n}" for n in range(40)] + [
    "status",
    "finalize",
    "watch",
    "proxy",
    "namespaces",
    "Ghost",
]
# Only what cannot exist is written to; odd ones (`ghost%41`, blanks, other scripts) are what mutations make.
NAMES = [f"ghost-{n}" for n in range(40)] + [
    "ghost:role",
    "ghost.example.com",
    "ghost a",
    "ghost-ü",
    "ghost+b",
    "ghost,c",
]
READ_NAMES = [
    *NAMES,
    "kubernetes",
    "default",
    "status",
    "exec",
    "watch",
    "proxy",
    "*",
    "https:ghost:443",
    "0",
]

BOOLS = ["true", "false", "1", "0", "", "no", "FALSE", "False", "f", "yes", "t", "TRUE", "2", "+false", "00"]
FIELD_SELECTORS = [
    "metadata.name=ghost-1", "metadata.name%3Dghost-2", "metadata.name==ghost-3", "metadata.name!=ghost-4",
    "metadata.name%3Dghost-5,metadata.name%3Dghost-0", "metadata.namespace=x,metadata.name=ghost-6", "metadata.name=",
    "metadata.name=a%5C,b", "metadata.name=a%5C%5Cb", "metadata.name=a%5C", "metadata.name=a%5Cx", "metadata.name=a=b",
    "metadata.name=a%5C=b", "metadata.name=..", "metadata.name=.", "metadata.name=a%2Fb", "metadata.name=a%2525",
    "metadata.name", "metadata.name=ghost-7,", ",metadata.name=ghost-8", "spec.nodeName=ghost", "=", "=x", "",
    "metadata.name+=ghost", "metadata.name=+ghost-9", "metadata.name=ghost%20a", "METADATA.NAME=ghost", "a!b=c",
    "metadata.name=x!=y", "metadata.name!==y", "metadata.name===y", "involvedObject.kind=Pod,metadata.name=ghost-10",
    "a,metadata.name=ghost", "%5C,metadata.name=ghost", "metadata.name=gh%C3%BCst", "metadata.name=a%09b",
]  # fmt: skip
LABEL_SELECTORS = [
    "app=web", "app%3Dweb", "app", "!app", "app+in+(a,b)", "app+notin+(a)", "app%20in%20(a)", "a=b,c=d", "a==b", "a!=b",
    "", "app.kubernetes.io/name=x", "a>1", "a<x", "a===b", "a=b=c", "a+b", ",", "a,", "-a", "in+in+(in)", "a+in+()", "a=",
    "a%0A=b", "a+in+(a", "A/b=c", "a%09in+(b)", "x" * 64, "a=" + "x" * 64,
]  # fmt: skip
TEXTS = [
    "x",
    "",
    "0",
    "a%20b",
    "a+b",
    "%C3%A9",
    "%FF",
    "%00",
    "%0A",
    "a%2Fb",
    "a%26b",
    "a%3Db",
    "100",
    "Background",
    "All",
]
INTS = [
    "0",
    "1",
    "500",
    "-1",
    "+3",
    "x",
    "",
    "9223372036854775807",
    "9223372036854775808",
    "1e3",
    "0x10",
    "007",
    "1_0",
    "%31",
]
DURATIONS = ["30s", "1m0s", "0", "0s", "1.5h", "x", "", "30", "-1s", "100ms", "1h1"]

READ_PARAMETERS: dict[str, list[str]] = {
    "watch": BOOLS, "fieldSelector": FIELD_SELECTORS, "labelSelector": LABEL_SELECTORS, "limit": INTS,
    "continue": TEXTS, "resourceVersion": ["0", "", "1", "x"], "resourceVersionMatch": ["NotOlderThan", "Exact", "x"],
    "timeoutSeconds": INTS, "allowWatchBookmarks": BOOLS, "sendInitialEvents": BOOLS, "timeout": DURATIONS,
    "pretty": BOOLS, "includeObject": ["Object", "None", "Metadata", "x"], "shardSelector": ["", "x"],
}  # fmt: skip
WRITE_PARAMETERS: dict[str, list[str]] = {
    "fieldManager": TEXTS, "fieldValidation": ["Strict", "Warn", "Ignore", "x"], "force": BOOLS, "dryRun": ["All", "", "x"],
    "timeout": DURATIONS, "pretty": BOOLS,
}  # fmt: skip
DELETE_PARAMETERS: dict[str, list[str]] = {
    "dryRun": ["All"], "gracePeriodSeconds": INTS, "orphanDependents": BOOLS, "fieldSelector": FIELD_SELECTORS,
    "propagationPolicy": ["Orphan", "Background", "Foreground", "x"], "labelSelector": LABEL_SELECTORS, "limit": INTS,
}  # fmt: skip
STREAM_PARAMETERS: dict[str, list[str]] = {
    "command": ["sh", "-c", "echo%20a%0Ab", "a+b", "%00", ""], "stdin": BOOLS, "stdout": BOOLS, "tty": BOOLS,
    "container": TEXTS, "follow": ["false", "0", "true"], "tailLines": INTS, "previous": BOOLS, "ports": INTS,
}  # fmt: skip
ODD_PARAMETERS = [
    "x=1", "Watch=1", "WATCH=true", "watch=1;x=2", "watch=%zz", "dryrun=All", "fieldselector=metadata.name=ghost", "&", "=",
    "=watch", "%77atch=1", "wat%63h=true", "watch=%31", "watch%3D1", "watch=true&watch=false", "watch=false&watch=true",
    "fieldSelector=metadata.name=ghost-1&fieldSelector=metadata.name=ghost-2", "limit=1&Limit=2", "access_token=x", "export=1",
    "exact=true", "path=/x", "?watch=1", "watch?=1", "%", "a%", "watch=1%", "#watch=1", "watch\x00=1", "ü=1", "[a]=1",
]  # fmt: skip


def generate(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """`count` pairs of method and raw target."""
    rng = random.Random(seed)
    for _ in range(count):
        method = _weighted(
            rng,
            [("GET", 64), ("HEAD", 4), ("POST", 7), ("PUT", 5), ("PATCH", 6), ("DELETE", 9), ("OPTIONS", 1), ("TRACE", 1),
             ("get", 1), ("CONNECT", 1), ("FOO", 1)],
        )  # fmt: skip
        path, parameters = _path(rng, method)
        pairs = _pairs(rng, parameters)
        if method == "DELETE" and "ghost" not in path:
            pairs.insert(0, "dryRun=All")
        if rng.random() < 0.25:
            path = _mutated(rng, path)
        if rng.random() < 0.1:
            pairs.insert(rng.randint(0, len(pairs)), rng.choice(ODD_PARAMETERS))
        yield method, path + ("?" + "&".join(pairs) if pairs or rng.random() < 0.02 else "")


def harmless(target: Target) -> bool:
    """Whether a request without a body changes nothing, whatever the server holds."""
    info = target.info
    ghost = "ghost" in info.namespace.lower() or "ghost" in info.name.lower()
    removes = info.is_resource and info.verb in ("delete", "deletecollection")
    return not removes or ghost or ("dryRun", "All") in target.query


def _weighted(rng: random.Random, choices: Choice) -> str:
    return rng.choices([c for c, _ in choices], [w for _, w in choices])[0]


def _path(rng: random.Random, method: str) -> tuple[str, dict[str, list[str]]]:
    """A path, percent-encoded, and the parameters that suit it."""
    form = _weighted(
        rng, [("resource", 78), ("watch", 8), ("proxy", 5), ("non-resource", 8), ("legacy proxy", 1)]
    )
    reads = method in ("GET", "HEAD")
    if form == "non-resource":
        return rng.choice(NON_RESOURCE), {
            "timeout": DURATIONS,
            "verbose": TEXTS,
            "exclude": TEXTS,
            "hash": TEXTS,
        }
    if rng.random() < 0.6 or form == "proxy":
        root, resource = "/api/" + _weighted(rng, [("v1", 19), ("v2", 1)]), rng.choice(CORE)
    else:
        version = rng.choice(list(GROUPS))
        root, resource = f"/apis/{version}", rng.choice(GROUPS[version])
    if form == "watch":
        root += "/watch"
    elif form == "legacy proxy":
        root += "/proxy"
    names = READ_NAMES if reads else NAMES
    namespaces = REAL_NAMESPACES + GHOST_NAMESPACES if reads or method == "DELETE" else GHOST_NAMESPACES
    if rng.random() < 0.7:
        root += "/namespaces/" + rng.choice(namespaces)
    if form == "proxy":
        resource = rng.choice(["pods", "services", "nodes", "pods", "services", "nodes", "secrets"])
        below = rng.choice(
            ["", "/", "/a", "/a/", "/a//b", "//", "/a/%2e%2e/b", "/a%2Fb", "/metrics", "/a%20b", "/run/x/y"]
        )
        return f"{root}/{resource}/{_quoted(rng.choice(names))}/proxy{below}", {
            "path": TEXTS,
            "x": TEXTS,
            "watch": BOOLS,
        }
    depth = rng.choices(["root", "list", "name", "subresource"], [2, 45, 35, 18])[0]
    path = root
    if depth == "subresource" and rng.random() < 0.5:
        resource = "pods"
    if depth != "root":
        path += "/" + resource
    if depth in ("name", "subresource"):
        path += "/" + _quoted(rng.choice(names))
    if depth == "subresource":
        path += "/" + rng.choice(SUBRESOURCES)
        if rng.random() < 0.4:
            return path, STREAM_PARAMETERS
    if reads:
        return path, READ_PARAMETERS
    return path, DELETE_PARAMETERS if method == "DELETE" else WRITE_PARAMETERS


def _quoted(name: str) -> str:
    return "".join(
        c if c.isascii() and c not in " %" else "".join(f"%{b:02X}" for b in c.encode()) for c in name
    )


def _pairs(rng: random.Random, parameters: dict[str, list[str]]) -> list[str]:
    keys = rng.sample(list(parameters), min(len(parameters), rng.choices([0, 1, 2, 3], [45, 30, 18, 7])[0]))
    pairs = []
    for key in keys:
        # Mostly what a client would send: the first values of each list.
        values = parameters[key]
        value = rng.choice(values[:3]) if rng.random() < 0.5 else rng.choice(values)
        pairs.append(key if value == "" and rng.random() < 0.5 else f"{key}={value}")
    return pairs


def _mutated(rng: random.Random, path: str) -> str:
    at = rng.randrange(len(path))
    slash = rng.choice([i for i, c in enumerate(path) if c == "/"])
    mutations: list[Callable[[], str]] = [
        lambda: path[:at] + f"%{ord(path[at]):02X}" + path[at + 1 :] if path[at] not in "/%" else path,
        lambda: path[:at] + f"%{ord(path[at]):02x}" + path[at + 1 :] if path[at] not in "/%" else path,
        lambda: path[:at] + f"%25{ord(path[at]):02X}" + path[at + 1 :],
        lambda: path[:slash] + "%2F" + path[slash + 1 :],
        lambda: path[:slash] + "/" + path[slash:],
        lambda: path[:slash] + "/." + path[slash:],
        lambda: path[:slash] + "/x/.." + path[slash:],
        lambda: path[:slash] + "/%2e%2e" + path[slash:],
        lambda: path[:slash] + "\\" + path[slash + 1 :],
        lambda: path[:slash] + "%5C" + path[slash + 1 :],
        lambda: path + "/",
        lambda: path + "//",
        lambda: path + "%2F",
        lambda: path + ";x=1",
        lambda: path + "%3Bx",
        lambda: path + "%00",
        lambda: path + "%0D%0A",
        lambda: path + "%FF",
        lambda: path + "%e2%80%ae",
        lambda: path + "%",
        lambda: path + "%zz",
        lambda: path + "#x",
        lambda: path + "ü",
        lambda: path + " ",
        lambda: path + "%20",
        lambda: path + "%C3%BC",
        lambda: path[:at] + path[at].upper() + path[at + 1 :],
        lambda: path.upper(),
        lambda: path[1:],
        lambda: "/" + path,
        lambda: "https://other.example" + path,
        lambda: "*",
        lambda: path.replace("/api", "/api/.", 1),
        lambda: path.replace("/namespaces/", "/namespaces//", 1),
        lambda: path.replace("/namespaces/", "/namespaces/%2f", 1),
        lambda: path + "/" + "x" * rng.choice([253, 254]),
    ]
    # What leaves the meaning alone comes oftener than what is refused for its form.
    return rng.choice([*mutations[:2], mutations[10]])() if rng.random() < 0.5 else rng.choice(mutations)()
