"""Every row of the hazard table, by a request that meets it and by its nearest harmless neighbour."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.kube import hazards as module
from interlock.kube.hazards import (
    CLASSES,
    CONDITIONS,
    HAZARDS,
    OPEN_NON_RESOURCE,
    PRIVILEGES,
    SECRETS,
    certain,
    classify,
    hazards,
)
from interlock.kube.target import RequestInfo, parse_target

NS = "/api/v1/namespaces/shop"
APPS = "/apis/apps/v1/namespaces/shop"
BATCH = "/apis/batch/v1/namespaces/shop"
CONNECT = frozenset({"connect"})
ESCALATION = frozenset({"escalation"})
DESTRUCTIVE = frozenset({"destructive"})
SECRET_READ = frozenset({"secret-read"})
NOTHING: frozenset[str] = frozenset()


def classes(method: str, raw: str, body: object | None = None) -> frozenset[str]:
    return frozenset(classify(parse_target(method, raw).info, body))


def pod(**spec: Any) -> dict[str, Any]:
    containers = [
        {"name": "c", "image": "i", "env": [{"name": "A", "value": "b"}], "ports": [{"containerPort": 80}]}
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": containers, **spec},
    }


def container(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "c", "image": "i", **fields}])


def secured(**context: Any) -> dict[str, Any]:
    return container(securityContext=context)


def labelled(**labels: str) -> dict[str, Any]:
    return {"metadata": {"labels": labels}}


def operation(op: str, path: str, **rest: Any) -> list[dict[str, Any]]:
    return [{"op": op, "path": path, **rest}]


# One request and the classes that it has. The body None stands for a request that has none.
Example = tuple[str, str, object, frozenset[str]]

EXAMPLES: list[Example] = [
    # connect: whatever the method
    *((m, f"{NS}/pods/p/{s}", None, CONNECT) for m in ("GET", "POST", "HEAD") for s in ("exec", "attach", "portforward")),
    *((m, f"{NS}/pods/p/proxy/x", None, CONNECT) for m in ("GET", "POST", "HEAD")),
    ("PUT", f"{NS}/pods/p/proxy/x", None, CONNECT | DESTRUCTIVE),
    ("GET", f"{NS}/services/web:80/proxy/", None, CONNECT),
    ("GET", "/api/v1/nodes/n1/proxy/run/x", None, CONNECT),
    ("GET", f"{NS}/pods/p/ephemeralcontainers", None, CONNECT),
    ("PATCH", f"{NS}/pods/p/ephemeralcontainers", {"spec": {"ephemeralContainers": [{"name": "d"}]}}, CONNECT),
    ("GET", "/apis/subresources.kubevirt.io/v1/namespaces/a/virtualmachineinstances/v/console", None, CONNECT),
    ("GET", f"{APPS}/deployments/d/exec", None, CONNECT),
    ("GET", f"{NS}/configmaps/c/unknown", None, CONNECT),
    ("GET", "/api/v1/watch/namespaces/shop/pods/p/exec", None, CONNECT),
    ("GET", "/apis/custom.metrics.k8s.io/v1beta1/namespaces/shop/pods/p/http_requests", None, NOTHING),
    ("GET", f"{NS}/pods/p/log", None, NOTHING),
    ("GET", f"{NS}/pods/p/status", None, NOTHING),
    # escalation: rights
    *(
        ("POST", f"/apis/rbac.authorization.k8s.io/{v}/{r}", {"metadata": {"name": "x"}}, ESCALATION)
        for v in ("v1", "v1beta1")
        for r in ("clusterroles", "clusterrolebindings", "namespaces/shop/roles", "namespaces/shop/rolebindings")
    ),
    ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles", None, NOTHING),
    ("POST", f"{NS}/serviceaccounts/default/token", {"spec": {}}, ESCALATION | SECRET_READ),
    ("POST", f"{NS}/secrets", {"type": "kubernetes.io/service-account-token"}, ESCALATION),
    ("POST", f"{NS}/secrets", {"type": "bootstrap.kubernetes.io/token", "data": {"a": "b"}}, ESCALATION),
    ("POST", f"{NS}/secrets", {"type": "Opaque", "data": {"a": "b"}}, NOTHING),
    ("POST", f"{NS}/secrets", {"metadata": {"annotations": {"kubernetes.io/service-account.name": "a"}}}, ESCALATION),
    ("POST", f"{NS}/secrets", {"metadata": {"annotations": "x"}}, ESCALATION),
    ("POST", f"{NS}/secrets", {"metadata": {"annotations": {"a": "b"}}}, NOTHING),
    ("POST", f"{NS}/secrets", {"metadata": {"annotations": None}}, NOTHING),
    ("PATCH", f"{NS}/secrets/s", {"data": {"a": "b"}}, SECRET_READ),
    ("PATCH", f"{NS}/secrets/s", {"type": "kubernetes.io/service-account-token"}, SECRET_READ | ESCALATION),
    ("POST", "/api/v1/namespaces/kube-system/secrets", {"data": {"a": "b"}}, ESCALATION),
    ("POST", f"{NS}/serviceaccounts", {"metadata": {"annotations": {"eks.amazonaws.com/role-arn": "a"}}}, ESCALATION),
    ("PATCH", f"{NS}/serviceaccounts/a", operation("add", "/metadata/annotations/iam.gke.io~1gcp-service-account", value="x"), ESCALATION),
    ("POST", f"{NS}/serviceaccounts", {"metadata": {"name": "a"}}, NOTHING),
    ("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", {"spec": {}}, ESCALATION),
    ("PUT", "/apis/certificates.k8s.io/v1/certificatesigningrequests/c/approval", {"spec": {}}, ESCALATION),
    ("POST", "/apis/certificates.k8s.io/v1beta1/namespaces/a/podcertificaterequests", {"spec": {}}, ESCALATION),
    ("PATCH", "/api/v1/namespaces/kube-system/configmaps/aws-auth", {"data": {"a": "b"}}, ESCALATION),
    ("PATCH", f"{NS}/configmaps/aws-auth", {"data": {"a": "b"}}, NOTHING),
    # escalation: the API server's own rules
    ("POST", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", {"a": 1}, ESCALATION),
    ("DELETE", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/p", None, ESCALATION | DESTRUCTIVE),
    ("PATCH", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/c", {"spec": {"conversion": {}}}, ESCALATION),
    ("POST", "/apis/apiregistration.k8s.io/v1/apiservices", {"spec": {"group": "x"}}, ESCALATION),
    ("PATCH", "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/f", {"spec": {"a": 1}}, ESCALATION),
    ("POST", "/apis/policy/v1beta1/podsecuritypolicies", {"spec": {"a": 1}}, ESCALATION),
    ("POST", "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies", {"spec": {"a": 1}}, ESCALATION),
    ("POST", "/apis/networking.k8s.io/v1/namespaces/shop/ingresses", {"spec": {"a": 1}}, NOTHING),
    # escalation: namespace labels
    ("POST", "/api/v1/namespaces", labelled(**{"pod-security.kubernetes.io/enforce": "privileged"}), ESCALATION),
    ("POST", "/api/v1/namespaces", {"metadata": {"name": "x", "labels": {}}}, NOTHING),
    ("POST", "/api/v1/namespaces", {"metadata": {"name": "x"}}, NOTHING),
    ("PATCH", NS, labelled(a="b"), ESCALATION),
    ("PATCH", f"{NS}/status", labelled(a="b"), ESCALATION),
    ("PATCH", NS, {"metadata": {"labels": None}}, ESCALATION),
    ("PATCH", NS, {"metadata": None}, ESCALATION | DESTRUCTIVE),
    ("PATCH", NS, operation("remove", "/metadata/labels/pod-security.kubernetes.io~1enforce"), ESCALATION),
    ("PATCH", NS, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}, ESCALATION),
    ("PATCH", NS, {"metadata": {"annotations": {"a": "b"}}}, NOTHING),
    ("PATCH", NS, operation("test", "/metadata/labels", value={}), NOTHING),
    ("PUT", NS, {"metadata": {"name": "shop"}}, ESCALATION),
    # escalation: pods and their templates, wherever they stand
    ("POST", f"{NS}/pods", pod(), NOTHING),
    ("POST", f"{NS}/pods", pod(serviceAccountName="default", nodeName="", hostNetwork=False), NOTHING),
    ("POST", f"{NS}/pods", pod(hostPID=True), ESCALATION),
    ("POST", f"{APPS}/deployments", {"spec": {"template": pod(hostNetwork=True)}}, ESCALATION),
    ("POST", f"{APPS}/deployments", {"spec": {"template": pod()}}, NOTHING),
    ("POST", f"{BATCH}/cronjobs", {"spec": {"jobTemplate": {"spec": {"template": secured(privileged=True)}}}}, ESCALATION),
    ("POST", f"{APPS}/controllerrevisions", {"data": {"spec": {"template": secured(privileged=True)}}}, ESCALATION),
    ("POST", f"{NS}/podtemplates", {"template": pod(nodeName="n1")}, ESCALATION),
    ("POST", f"{NS}/replicationcontrollers", {"spec": {"template": pod(nodeName="n1")}}, ESCALATION),
    ("POST", "/apis/serving.knative.dev/v1/namespaces/a/services", {"spec": {"template": pod(hostIPC=True)}}, ESCALATION),
    ("POST", "/apis/extensions/v1beta1/namespaces/a/deployments", {"spec": {"template": pod(hostIPC=True)}}, ESCALATION),
    ("PATCH", f"{APPS}/deployments/d", {"spec": {"template": {"spec": {"serviceAccountName": "admin"}}}}, ESCALATION),
    ("PATCH", f"{APPS}/deployments/d", operation("add", "/spec/template/spec/hostNetwork", value=True), ESCALATION),
    ("PATCH", f"{APPS}/deployments/d", operation("copy", "/spec/template/spec/hostNetwork", **{"from": "/spec/paused"}), ESCALATION | DESTRUCTIVE | SECRET_READ),
    ("PATCH", f"{APPS}/deployments/d", {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}}, NOTHING),
    ("PATCH", f"{NS}/pods/p/ephemeralcontainers", {"spec": {"ephemeralContainers": [{"securityContext": {"privileged": True}}]}}, CONNECT | ESCALATION),
    ("POST", f"{NS}/configmaps", {"data": {"hostNetwork": "true", "serviceAccountName": "x"}}, NOTHING),
    ("POST", f"{NS}/pods", {**pod(), "metadata": {"labels": {"privileged": "true", "nodeName": "x"}}}, NOTHING),
    ("POST", f"{NS}/pods", {**pod(), "metadata": {"labels": {"privileged": True}}}, ESCALATION),
    ("POST", "/apis/resource.k8s.io/v1/namespaces/a/resourceclaims", {"spec": {"devices": {"requests": [{"exactly": {"adminAccess": True}}]}}}, ESCALATION),
    ("POST", "/apis/resource.k8s.io/v1/namespaces/a/resourceclaims", {"spec": {"devices": {"requests": [{"exactly": {"count": 1}}]}}}, NOTHING),
    ("POST", "/apis/resource.k8s.io/v1/deviceclasses", {"spec": {}}, ESCALATION),
    # escalation: nodes, storage
    ("POST", "/api/v1/persistentvolumes", {"spec": {"hostPath": {"path": "/"}}}, ESCALATION),
    ("POST", "/apis/storage.k8s.io/v1/storageclasses", {"provisioner": "x"}, ESCALATION),
    ("POST", "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents", {"spec": {"a": 1}}, ESCALATION),
    ("POST", "/apis/snapshot.storage.k8s.io/v1/namespaces/a/volumesnapshots", {"spec": {"a": 1}}, NOTHING),
    ("POST", f"{NS}/persistentvolumeclaims", {"spec": {"a": 1}}, NOTHING),
    ("POST", "/apis/node.k8s.io/v1/runtimeclasses", {"handler": "x"}, ESCALATION),
    ("POST", "/api/v1/nodes", {"metadata": {"name": "n"}}, ESCALATION),
    ("PATCH", "/api/v1/nodes/n1", labelled(a="b"), ESCALATION),
    ("PATCH", "/api/v1/nodes/n1", {"metadata": {"annotations": {"a": "b"}}}, ESCALATION),
    ("PATCH", "/api/v1/nodes/n1/status", {"status": {"addresses": []}}, ESCALATION),
    ("PATCH", f"{NS}/pods/p/status", {"status": {"podIP": "10.0.0.1"}}, ESCALATION),
    ("POST", f"{NS}/bindings", {"target": {"name": "n1"}}, ESCALATION),
    ("POST", f"{NS}/pods/p/binding", {"target": {"name": "n1"}}, ESCALATION),
    # escalation: traffic
    ("POST", f"{NS}/services", {"spec": {"externalIPs": ["1.2.3.4"]}}, ESCALATION),
    ("POST", f"{NS}/services", {"spec": {"externalIPs": []}}, NOTHING),
    ("PATCH", f"{NS}/services/s", operation("add", "/spec/externalIPs/-", value="1.2.3.4"), ESCALATION),
    ("PATCH", f"{NS}/endpoints/e", {"subsets": [1]}, ESCALATION),
    ("POST", "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices", {"endpoints": []}, ESCALATION),
    ("POST", "/apis/networking.k8s.io/v1/servicecidrs", {"spec": {"a": 1}}, ESCALATION),
    # escalation: controllers that act for the agent
    *(
        ("POST", f"/apis/{g}/v1/namespaces/a/things", {"spec": {"a": 1}}, ESCALATION)
        for g in (
            "argoproj.io", "kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io", "ec2.aws.upbound.io", "tekton.dev",
            "operators.coreos.com", "kyverno.io", "templates.gatekeeper.sh", "external-secrets.io", "velero.io", "helm.cattle.io",
        )
    ),
    ("GET", "/apis/argoproj.io/v1alpha1/namespaces/a/applications", None, NOTHING),
    ("POST", "/apis/example.com/v1/namespaces/a/widgets", {"spec": {"a": 1}}, NOTHING),
    # destructive
    *(("DELETE", path, None, DESTRUCTIVE) for path in (f"{NS}/pods/p", f"{NS}/pods", NS, f"{APPS}/deployments/d", "/apis/x.y/v1/z/a")),
    ("DELETE", f"{NS}/pods/p", {"kind": "DeleteOptions", "dryRun": ["All"]}, DESTRUCTIVE),
    ("POST", f"{NS}/pods/p/eviction", {"apiVersion": "policy/v1beta1", "kind": "Eviction"}, DESTRUCTIVE),
    ("PUT", f"{NS}/finalize", {"spec": {"finalizers": []}}, DESTRUCTIVE | ESCALATION),
    ("PATCH", f"{APPS}/deployments/d/scale", {"spec": {"replicas": 0}}, DESTRUCTIVE),
    ("PATCH", f"{APPS}/deployments/d/scale", {"spec": {"replicas": None}}, DESTRUCTIVE),
    ("PATCH", f"{APPS}/deployments/d/scale", {"spec": {"replicas": "0"}}, DESTRUCTIVE),
    ("PATCH", f"{APPS}/deployments/d/scale", {"spec": {}}, DESTRUCTIVE),
    ("PATCH", f"{APPS}/deployments/d/scale", {"spec": None}, DESTRUCTIVE),
    ("PATCH", f"{APPS}/deployments/d/scale", {"spec": {"replicas": 2}}, NOTHING),
    ("PATCH", f"{APPS}/deployments/d/scale", {"metadata": {"annotations": {"a": "b"}}}, NOTHING),
    ("PATCH", f"{APPS}/deployments/d/scale", operation("replace", "/spec/replicas", value=0), DESTRUCTIVE),
    ("PATCH", f"{APPS}/deployments/d/scale", operation("remove", "/spec/replicas"), DESTRUCTIVE),
    ("PUT", f"{APPS}/statefulsets/d/scale", {"spec": {"replicas": 0}}, DESTRUCTIVE),
    ("PUT", f"{APPS}/statefulsets/d/scale", {"metadata": {"name": "d"}}, DESTRUCTIVE),
    ("PUT", f"{APPS}/statefulsets/d/scale", {"spec": {"replicas": 1}}, NOTHING),
    ("PATCH", f"{NS}/replicationcontrollers/d", {"spec": {"replicas": 0}}, DESTRUCTIVE),
    ("PATCH", f"{APPS}/deployments/d", {"spec": {"replicas": 0}}, DESTRUCTIVE),
    ("PATCH", f"{APPS}/deployments/d", {"spec": {"replicas": 3}}, NOTHING),
    ("PATCH", "/apis/example.com/v1/namespaces/a/widgets/w/scale", {"spec": {"replicas": 0}}, DESTRUCTIVE),
    ("PATCH", "/apis/autoscaling/v2/namespaces/a/horizontalpodautoscalers/h", {"spec": {"minReplicas": 0}}, DESTRUCTIVE),
    ("POST", "/apis/autoscaling/v1/namespaces/a/horizontalpodautoscalers", {"spec": {"minReplicas": 1}}, NOTHING),
    ("PATCH", f"{BATCH}/jobs/j", {"spec": {"suspend": True}}, DESTRUCTIVE),
    ("PATCH", f"{BATCH}/jobs/j", {"spec": {"suspend": False, "parallelism": 2}}, NOTHING),
    ("PATCH", f"{BATCH}/jobs/j", {"spec": {"parallelism": 0}}, DESTRUCTIVE),
    ("PATCH", f"{BATCH}/jobs/j", {"spec": {"ttlSecondsAfterFinished": 0}}, DESTRUCTIVE),
    ("PATCH", f"{NS}/pods/p", {"spec": {"activeDeadlineSeconds": 1}}, DESTRUCTIVE),
    ("PATCH", f"{APPS}/statefulsets/s", {"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}}, DESTRUCTIVE),
    ("PATCH", f"{APPS}/statefulsets/s", {"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Retain"}}}, NOTHING),
    ("PATCH", "/apis/policy/v1/namespaces/a/poddisruptionbudgets/b", {"spec": {"minAvailable": 0}}, DESTRUCTIVE),
    ("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", {"value": 1}, DESTRUCTIVE),
    ("PATCH", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", {"spec": {"a": 1}}, DESTRUCTIVE),
    ("PATCH", "/apis/coordination.k8s.io/v1/namespaces/shop/leases/n1", {"spec": {"a": 1}}, NOTHING),
    ("PATCH", "/api/v1/nodes/n1", {"spec": {"unschedulable": True}}, DESTRUCTIVE),
    ("PATCH", "/api/v1/nodes/n1", {"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}, DESTRUCTIVE),
    ("PATCH", "/api/v1/nodes/n1", {"spec": {"$deleteFromPrimitiveList/taints": []}}, DESTRUCTIVE),
    ("PATCH", "/api/v1/nodes/n1", {"spec": {"$patch": "merge"}}, DESTRUCTIVE),
    ("PATCH", "/api/v1/nodes/n1", {"spec": None}, DESTRUCTIVE),
    ("PATCH", "/api/v1/nodes/n1", {"spec": {"podCIDR": "x"}}, NOTHING),
    ("PATCH", "/api/v1/nodes/n1", {"metadata": {"name": "n1"}}, NOTHING),
    ("PUT", "/api/v1/nodes/n1", {"metadata": {"name": "n1"}}, DESTRUCTIVE | ESCALATION),
    ("PATCH", f"{NS}/pods/p/resize", {"spec": {"containers": []}}, DESTRUCTIVE),
    *(
        ("PATCH", f"{NS}/configmaps/c", {"metadata": {key: []}}, DESTRUCTIVE)
        for key in ("finalizers", "ownerReferences", "managedFields", "$deleteFromPrimitiveList/finalizers", "$setElementOrder/ownerReferences")
    ),
    ("PATCH", f"{NS}/configmaps/c", operation("remove", "/metadata/finalizers/0"), DESTRUCTIVE),
    ("PATCH", f"{NS}/configmaps/c", operation("add", "/metadata/ownerReferences/-", value={"uid": "x"}), DESTRUCTIVE),
    ("PATCH", f"{NS}/configmaps/c/status", {"metadata": {"finalizers": None}}, DESTRUCTIVE),
    ("PUT", f"{NS}/configmaps/c", {"metadata": {"finalizers": ["a"]}, "data": {"a": "b"}}, DESTRUCTIVE),
    ("PUT", f"{NS}/configmaps/c", {"metadata": {"managedFields": []}, "data": {"a": "b"}}, NOTHING),
    ("PUT", f"{NS}/configmaps/c", {"metadata": {"name": "c"}}, DESTRUCTIVE),
    ("PUT", f"{NS}/configmaps/c", {"data": {}}, DESTRUCTIVE),
    ("PUT", f"{NS}/configmaps/c", {"binaryData": {"a": "b"}}, NOTHING),
    ("PUT", f"{APPS}/deployments/d", {"spec": {"template": pod()}}, NOTHING),
    ("PATCH", f"{NS}/configmaps/c", {"data": None}, DESTRUCTIVE),
    ("PATCH", f"{NS}/configmaps/c", {"data": {"a": None}}, DESTRUCTIVE),
    ("PATCH", f"{NS}/configmaps/c", {"data": {"a": "b"}}, NOTHING),
    ("PATCH", f"{NS}/configmaps/c", {"data": {"a": "b"}, "metadata": {"annotations": {"a": None}}}, NOTHING),
    ("PATCH", f"{NS}/configmaps/c", operation("remove", "/data/a"), DESTRUCTIVE),
    ("PATCH", f"{NS}/configmaps/c", operation("replace", "/data", value={"a": "b"}), DESTRUCTIVE),
    ("PATCH", f"{NS}/configmaps/c", operation("replace", "/data/a", value="b"), NOTHING),
    ("PATCH", f"{NS}/configmaps/c", operation("replace", "", value={"data": {"a": "b"}}), DESTRUCTIVE),
    ("PATCH", f"{NS}/configmaps/c", {"$patch": "replace"}, DESTRUCTIVE),
    ("PATCH", f"{NS}/configmaps/c", {"metadata": {"$retainKeys": ["name"]}}, DESTRUCTIVE),
    ("PATCH", f"{NS}/configmaps/c", {}, NOTHING),
    ("PATCH", f"{NS}/configmaps/c", [], NOTHING),
    ("PATCH", f"{APPS}/deployments/d", operation("replace", "/spec/template", value=pod()), DESTRUCTIVE),
    ("PATCH", f"{APPS}/daemonsets/d", {"spec": {"template": {**pod(), "$patch": "replace"}}}, DESTRUCTIVE),
    ("PATCH", f"{APPS}/deployments/d", operation("add", "/spec/template/spec/containers/-", value={"name": "d"}), NOTHING),
    ("PATCH", f"{APPS}/deployments/d", {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}, NOTHING),
    # secret-read
    *((m, f"{NS}/secrets{s}", None, SECRET_READ) for m in ("GET", "HEAD") for s in ("", "/s", "?watch=1", "?fieldSelector=metadata.name=s")),
    ("GET", "/api/v1/secrets", None, SECRET_READ),
    ("GET", "/api/v1/watch/secrets", None, SECRET_READ),
    ("PATCH", f"{NS}/secrets/s", {}, SECRET_READ),
    ("PUT", f"{NS}/secrets/s?dryRun=All", {"data": {"a": "b"}}, SECRET_READ),
    ("DELETE", f"{NS}/secrets/s", None, SECRET_READ | DESTRUCTIVE),
    ("DELETE", f"{NS}/secrets?dryRun=All", None, SECRET_READ | DESTRUCTIVE),
    ("GET", "/apis/example.com/v1/namespaces/a/secrets/s", None, SECRET_READ),
    ("POST", f"{NS}/pods", pod(volumes=[{"secret": {"secretName": "s"}}]), SECRET_READ),
    ("POST", f"{NS}/pods", pod(volumes=[{"configMap": {"name": "s"}}]), NOTHING),
    ("POST", f"{NS}/pods", container(envFrom=[{"secretRef": {"name": "s"}}]), SECRET_READ),
    ("POST", f"{APPS}/deployments", {"spec": {"template": container(env=[{"valueFrom": {"secretKeyRef": {"name": "s"}}}])}}, SECRET_READ),
    ("POST", f"{BATCH}/jobs", {"spec": {"template": pod(volumes=[{"projected": {"sources": [{"serviceAccountToken": {}}]}}])}}, SECRET_READ),
    ("PATCH", f"{APPS}/deployments/d", operation("add", "/spec/template/spec/volumes/0/secret/secretName", value="s"), SECRET_READ),
    # nothing at all
    *(("GET", path, None, NOTHING) for path in (f"{NS}/pods", f"{NS}/pods/p", "/api/v1/nodes", f"{NS}/events", "/apis/events.k8s.io/v1/events", f"{NS}/configmaps")),
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": {"a": 1}}, NOTHING),
    ("POST", f"{NS}/services", {"spec": {"ports": [{"port": 80}]}}, NOTHING),
    ("GET", "/metrics", None, NOTHING),
    ("DELETE", "/api/v1", None, NOTHING),
]  # fmt: skip


@pytest.mark.parametrize(("method", "raw", "body", "expected"), EXAMPLES)
def test_examples(method: str, raw: str, body: object, expected: frozenset[str]) -> None:
    assert classes(method, raw, body) == expected


def info(**fields: Any) -> RequestInfo:
    """A request that no target makes: what a SelfSubjectAccessReview asks about."""
    known: dict[str, Any] = {
        "is_resource": True, "path": "", "verb": "get", "api_prefix": "", "api_group": "", "api_version": "", "namespace": "",
        "resource": "pods", "subresource": "", "name": "", "parts": (), "label_selector": "", "field_selector": "",
    }  # fmt: skip
    return RequestInfo(**{**known, **fields})


# The rows that only a question about rights meets.
QUESTIONS = [info(verb="escalate", api_group="rbac.authorization.k8s.io", resource="clusterroles")]


def test_every_row_of_the_table_is_met_by_an_example() -> None:
    met = {row for method, raw, body, _ in EXAMPLES for row in hazards(parse_target(method, raw).info, body)}
    met |= {row for question in QUESTIONS for row in hazards(question, None)}
    assert [row for row in HAZARDS if row not in met] == []


def test_every_row_says_why_and_every_condition_is_used() -> None:
    assert all(row.reason and "\n" not in row.reason for row in HAZARDS)
    assert {row.when for row in HAZARDS} - {None} == set(CONDITIONS)
    assert {row.hazard for row in HAZARDS} == set(CLASSES)
    assert len(set(HAZARDS)) == len(HAZARDS)


# The fields of a pod


@pytest.mark.parametrize(
    "body",
    [
        secured(privileged=True), secured(privileged="true"), secured(capabilities={"add": ["SYS_ADMIN"]}),
        secured(capabilities={"add": ["CHOWN", "ALL"]}), secured(capabilities={"add": "ALL"}), secured(capabilities=["ALL"]),
        secured(capabilities={"add": [7]}), secured(procMount="Unmasked"), secured(seccompProfile={"type": "Unconfined"}),
        secured(seccompProfile="x"), secured(appArmorProfile={"type": "Unconfined"}), secured(seLinuxOptions={"type": "spc_t"}),
        secured(seLinuxOptions={"user": "u"}), secured(seLinuxOptions={"role": "r"}), secured(seLinuxOptions=7),
        secured(windowsOptions={"hostProcess": True}), container(ports=[{"hostPort": 80}]),
        container(livenessProbe={"httpGet": {"host": "169.254.169.254"}}), container(lifecycle={"preStop": {"tcpSocket": {"host": "x"}}}),
        pod(securityContext={"sysctls": [{"name": "kernel.msgmax"}]}), pod(securityContext={"sysctls": "x"}),
        pod(securityContext={"sysctls": ["x"]}), pod(volumes=[{"hostPath": {"path": "/"}}]), pod(volumes=[{"flexVolume": {}}]),
        pod(volumes=[{"gitRepo": {"repository": "x"}}]), pod(hostNetwork=True), pod(hostPID=True), pod(hostIPC=True),
        pod(nodeName="n1"), pod(serviceAccountName="admin"), pod(serviceAccount="admin"),
        pod(initContainers=[{"securityContext": {"privileged": True}}]),
        {**pod(), "metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}}},
        [], "x", 7,
    ],
)  # fmt: skip
def test_a_pod_that_leaves_the_baseline_is_an_escalation(body: Any) -> None:
    assert "escalation" in classes("POST", f"{NS}/pods", body)
    assert "escalation" in classes(
        "POST", f"{APPS}/deployments", {"spec": {"template": body}} if body.__class__ is dict else body
    )
    if isinstance(body, dict):
        assert "escalation" in classes(
            "PATCH", f"{APPS}/deployments/d", operation("add", "/spec/template", value=body)
        )


@pytest.mark.parametrize(
    "body",
    [
        secured(privileged=False, capabilities={"drop": ["ALL"]}, procMount="Default"), secured(capabilities={"add": ["NET_BIND_SERVICE"]}),
        secured(capabilities=None), secured(seccompProfile={"type": "RuntimeDefault"}), secured(seccompProfile=None),
        secured(seLinuxOptions={"type": "container_t", "level": "s0"}), secured(seLinuxOptions=None),
        secured(runAsNonRoot=True, readOnlyRootFilesystem=True), container(livenessProbe={"httpGet": {"path": "/", "port": 80}}),
        pod(securityContext={"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}), pod(securityContext={"sysctls": None}),
        pod(volumes=[{"emptyDir": {}}, {"persistentVolumeClaim": {"claimName": "c"}}]), pod(nodeSelector={"hostPath": "x"}),
        {**pod(), "metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "runtime/default"}}},
        {**pod(), "metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "localhost/x", "a": "b"}}},
    ],
)  # fmt: skip
def test_a_pod_within_the_baseline_is_not(body: dict[str, Any]) -> None:
    assert classes("POST", f"{NS}/pods", body) == NOTHING


WAYS: dict[str, Any] = {
    "privileged": True, "hostNetwork": True, "hostPID": True, "hostIPC": True, "hostProcess": True, "hostPort": 1,
    "hostPath": {"path": "/"}, "flexVolume": {}, "gitRepo": {}, "procMount": "Unmasked", "capabilities": {"add": ["ALL"]},
    "seccompProfile": {"type": "Unconfined"}, "appArmorProfile": {"type": "Unconfined"}, "seLinuxOptions": {"user": "x"},
    "sysctls": [{"name": "x"}], "httpGet": {"host": "x"}, "tcpSocket": {"host": "x"}, "nodeName": "n", "serviceAccountName": "a",
    "annotations": {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}, "serviceAccount": "a", "adminAccess": True,
    **{key: {"name": "x"} for key in SECRETS},
}  # fmt: skip


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """The deepest values, each with its path: the most indirect JSON patch that writes the same."""
    if isinstance(value, dict) and value:
        return [leaf for key, held in value.items() for leaf in leaves(held, (*path, key))]
    if isinstance(value, list) and value:
        return [leaf for n, held in enumerate(value) for leaf in leaves(held, (*path, str(n)))]
    return [(path, value)]


def pointer(path: tuple[str, ...]) -> str:
    return "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in path)


def test_the_ways_below_cover_the_tables() -> None:
    assert set(WAYS) == set(PRIVILEGES) | set(SECRETS)


@pytest.mark.parametrize("field", WAYS)
@settings(derandomize=True, max_examples=12, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["spec", "template", "jobTemplate", "0", "-", "driver", "securityContext", "a/b", "x~y"]
        ),
        max_size=5,
    )
)
def test_a_field_is_found_wherever_it_stands_and_however_it_is_written(field: str, where: list[str]) -> None:
    wanted = "secret-read" if field in SECRETS else "escalation"
    body: Any = {field: WAYS[field]}
    for key in reversed(where):
        body = [body] if key in ("0", "-") else {key: body}
    merge = {"spec": body}
    target = "/apis/example.com/v1/namespaces/a/widgets/w"
    assert wanted in classes("POST", "/apis/example.com/v1/namespaces/a/widgets", merge)
    assert wanted in classes("PATCH", target, merge)
    assert wanted in classes("PUT", target, merge)
    for path, value in leaves(body):
        assert wanted in classes("PATCH", target, operation("add", pointer(("spec", *path)), value=value))
    assert wanted in classes(
        "PATCH", target, operation("replace", pointer(("spec", *where, field)), value=WAYS[field])
    )


# What is not understood


@pytest.mark.parametrize(
    "body",
    [
        None, "text", 7, True, ["x"], [None], [{}], [{"op": "add"}], [{"op": "add", "path": "/spec"}], [{"op": "add", "path": 7, "value": 1}],
        [{"op": "add", "path": "spec", "value": 1}], [{"op": "ADD", "path": "/spec", "value": 1}], [{"op": "add", "path": "", "value": 1}],
        [{"op": "remove", "path": ""}], [{"op": "copy", "from": "/data", "path": "/metadata/annotations/x"}], [{"op": ["add"], "path": "/a", "value": 1}],
        [{"op": "move", "from": "/data/a", "path": "/data/b"}], [{"op": "add", "path": "/a" * 65, "value": 1}], {"$patch": "delete"},
        {"metadata": {"$patch": "replace"}}, {"$retainKeys": []},
    ],
)  # fmt: skip
def test_a_body_that_is_not_understood_has_every_class_of_its_rows(body: object) -> None:
    for raw in (
        f"{APPS}/deployments/d",
        NS,
        f"{NS}/secrets/s",
        f"{NS}/serviceaccounts/a",
        f"{NS}/services/s",
        "/api/v1/nodes/n",
    ):
        found = parse_target("PATCH", raw).info
        assert classify(found, body) == classify(found, None)
        assert {"escalation", "destructive"} <= classify(found, body)


def test_a_list_is_a_body_for_patches_alone() -> None:
    assert "escalation" in classes("POST", f"{NS}/pods", [])
    assert "escalation" in classes("PUT", f"{NS}/pods/p", [])
    assert classes("PATCH", f"{NS}/pods/p", []) == NOTHING


def test_deep_bodies_are_read_without_recursion() -> None:
    body: Any = {"privileged": True}
    for _ in range(20_000):
        body = {"spec": [body]}
    assert "escalation" in classes("POST", f"{NS}/pods", body)
    while body:  # taken apart from the outside, for the interpreter's sake
        body = body.pop("spec", [None])[0]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.sampled_from([e for e in EXAMPLES if isinstance(e[2], dict)]),
    st.randoms(use_true_random=False),
    st.sampled_from(["v1", "v2", "v1beta1", "v1alpha1"]),
)
def test_version_and_order_of_keys_never_matter_and_less_knowledge_never_helps(
    example: Example, rng: random.Random, version: str
) -> None:
    method, raw, body, expected = example

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = list(value.items())
            rng.shuffle(items)
            return {key: shuffled(held) for key, held in items}
        return [shuffled(held) for held in value] if isinstance(value, list) else value

    prefix = 3 if raw.startswith("/apis/") else 2
    parts = raw.split("/")
    parts[prefix if prefix == 2 else 3] = version
    assert classes(method, "/".join(parts), shuffled(body)) == expected
    assert classes(method, raw, None) >= expected


def test_a_verb_or_name_that_is_not_one_meets_every_row_of_its_resource() -> None:
    assert classify(info(verb="use"), None) == {"escalation", "destructive", "secret-read"}
    assert classify(info(verb="*", resource="secrets"), None) >= {"secret-read", "destructive"}
    assert classify(info(verb="*", resource="*", api_group="*", subresource="*"), None) == set(CLASSES)
    assert "connect" in classify(info(subresource="*"), None)
    assert "secret-read" in classify(info(resource="*"), None)
    assert classify(info(verb="impersonate", resource="users"), None) == {"escalation"} | classify(
        info(verb="use", resource="users"), None
    )


def test_what_is_certain_without_a_body() -> None:
    assert certain(info(verb="create")) == NOTHING
    assert certain(info(verb="delete")) == DESTRUCTIVE
    assert certain(info(verb="create", subresource="exec")) == CONNECT
    assert certain(info(is_resource=False, resource="")) == NOTHING


def test_the_lookup_is_bounded() -> None:
    assert module._rows.cache_info().maxsize == 4096


# Non-resource paths


def is_open(path: str) -> bool:
    """As RBAC matches nonResourceURLs: exactly, or by a prefix with `*` behind it."""
    return any(path == p or (p.endswith("*") and path.startswith(p[:-1])) for p in OPEN_NON_RESOURCE)


@pytest.mark.parametrize(
    "path",
    ["/api", "/api/v1", "/apis", "/apis/apps/v1", "/openapi/v2", "/openapi/v3/apis/apps/v1", "/version", "/healthz", "/healthz/etcd",
     "/livez/ping", "/readyz"],
)  # fmt: skip
def test_row_41_what_a_star_covers(path: str) -> None:
    assert is_open(path)


@pytest.mark.parametrize(
    "path",
    ["/", "/metrics", "/metrics/slis", "/debug/pprof/heap", "/logs/x", "/configz", "/flagz", "/statusz", "/openid/v1/jwks",
     "/.well-known/openid-configuration", "/apix", "/healthzz", "/versions", "/openapix", "/api2/v1", ""],
)  # fmt: skip
def test_row_41_what_it_does_not(path: str) -> None:
    assert not is_open(path)


def test_row_41_is_written_in_the_words_of_rbac() -> None:
    assert all(pattern.startswith("/") and pattern.count("*") <= 1 for pattern in OPEN_NON_RESOURCE)
