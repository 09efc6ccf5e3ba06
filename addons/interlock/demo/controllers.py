"""What a cluster's controllers, scheduler and kubelet would do, at once and in memory.

In: the store's events. Out: more writes to the store. Enough for `kubectl rollout status`, `scale`,
`drain` and namespace deletion to end as they do on a cluster; nothing is ever started on this host.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from interlock.demo.resources import Object, Resource
from interlock.demo.store import Event, Refused, Store
from interlock.demo.workloads import Logs

NODE = "demo-node-1"


class Controllers:
    """Listens to one store. `reconcilers` is the table: event type and resource to what follows."""

    def __init__(self, store: Store, logs: Logs, resources: Mapping[str, Resource]) -> None:
        """`resources` gives the rows by qualified name (`deployments.apps`)."""
        self.store = store
        self.logs = logs
        self.resources = resources
        self._pods = 0
        self.reconcilers: dict[tuple[str, str], Callable[[Object], None]] = {
            ("ADDED", "namespaces"): self._furnish,
            ("DELETED", "namespaces"): self._empty,
            ("ADDED", "deployments.apps"): self._roll_out,
            ("MODIFIED", "deployments.apps"): self._roll_out,
            ("ADDED", "replicasets.apps"): self._replicate,
            ("MODIFIED", "replicasets.apps"): self._replicate,
            ("ADDED", "jobs.batch"): self._work,
            ("ADDED", "pods"): self._run,
            ("DELETED", "pods"): self._replace,
        }
        store.subscribe(self)

    def __call__(self, event: Event) -> None:
        reconcile = self.reconcilers.get((event.type, event.resource.qualified))
        if reconcile is not None:
            reconcile(event.object)
        if event.type == "DELETED":
            self._collect(event.object["metadata"]["uid"])

    def _furnish(self, namespace: Object) -> None:
        name = namespace["metadata"]["name"]
        row = self.resources["namespaces"]
        self.store.set_status(row, self.store.get(row, "", name), {"phase": "Active"})
        for resource, made, data in (
            ("serviceaccounts", "default", {}),
            ("configmaps", "kube-root-ca.crt", {"data": {"ca.crt": "the demo cluster's authority"}}),
        ):
            self.store.create(self.resources[resource], name, {"metadata": {"name": made}, **data})

    def _empty(self, namespace: Object) -> None:
        for resource in self.resources.values():
            if resource.namespaced and resource.stored:
                for item in self.store.objects(resource, namespace["metadata"]["name"])[1]:
                    self.store.delete(resource, item)

    def _collect(self, owner: str) -> None:
        """Background garbage collection: what only the deleted object owned goes too."""
        for resource in self.resources.values():
            if not resource.stored:
                continue
            for item in self.store.objects(resource)[1]:
                owners = item["metadata"].get("ownerReferences") or []
                if owners and all(reference.get("uid") == owner for reference in owners):
                    self.store.delete(resource, item)

    def _roll_out(self, deployment: Object) -> None:
        """One replica set for the present template; the older ones are kept at zero, for `undo`."""
        deployments, row = self.resources["deployments.apps"], self.resources["replicasets.apps"]
        deployment = self._live(deployments, deployment)
        if not deployment:
            return
        metadata, spec = deployment["metadata"], deployment.get("spec") or {}
        template = spec.get("template") or {}
        wanted = spec.get("replicas", 1)
        digest = hashlib.sha256(json.dumps(_bare(template), sort_keys=True).encode()).hexdigest()[:10]
        owned = self._owned(row, deployment)
        revision = len(owned)
        current = next((item for item in owned if item["metadata"]["name"].endswith(f"-{digest}")), None)
        for item in owned:
            if item is not current and item["spec"].get("replicas"):
                self.store.update(row, item, {**item, "spec": {**item["spec"], "replicas": 0}})
        labels = {**_labels(template), "pod-template-hash": digest}
        if current is None:
            revision += 1
            self.store.create(
                row,
                metadata["namespace"],
                {
                    "metadata": {
                        "name": f"{metadata['name']}-{digest}",
                        "labels": labels,
                        "annotations": {"deployment.kubernetes.io/revision": str(revision)},
                        "ownerReferences": [_owner(deployment)],
                    },
                    "spec": {
                        "replicas": wanted,
                        "selector": {"matchLabels": labels},
                        "template": {
                            **template,
                            "metadata": {**(template.get("metadata") or {}), "labels": labels},
                        },
                    },
                },
            )
        elif current["spec"].get("replicas") != wanted:
            self.store.update(row, current, {**current, "spec": {**current["spec"], "replicas": wanted}})
        status = {
            "observedGeneration": metadata.get("generation", 1),
            "replicas": wanted,
            "updatedReplicas": wanted,
            "readyReplicas": wanted,
            "availableReplicas": wanted,
            "conditions": [
                {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"},
                {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
            ],
        }
        self.store.set_status(deployments, deployment, status)

    def _replicate(self, replica_set: Object) -> None:
        row, pods = self.resources["replicasets.apps"], self.resources["pods"]
        replica_set = self._live(row, replica_set)
        if not replica_set:
            return
        spec = replica_set.get("spec") or {}
        wanted = spec.get("replicas", 1)
        running = self._owned(pods, replica_set)
        for pod in running[wanted:]:
            self.store.delete(pods, pod)
        template = spec.get("template") or {}
        for _ in range(wanted - len(running)):
            metadata = {
                **(template.get("metadata") or {}),
                "generateName": f"{replica_set['metadata']['name']}-",
                "ownerReferences": [_owner(replica_set)],
            }
            pod = {"metadata": metadata, "spec": template.get("spec") or {}}
            self.store.create(pods, replica_set["metadata"]["namespace"], pod)
        status = {
            "replicas": wanted,
            "readyReplicas": wanted,
            "availableReplicas": wanted,
            "fullyLabeledReplicas": wanted,
            "observedGeneration": replica_set["metadata"].get("generation", 1),
        }
        self.store.set_status(row, replica_set, status)

    def _work(self, job: Object) -> None:
        """A job's pod runs and succeeds in the same instant."""
        row, pods = self.resources["jobs.batch"], self.resources["pods"]
        metadata = job["metadata"]
        template = (job.get("spec") or {}).get("template") or {}
        self.store.create(
            pods,
            metadata["namespace"],
            {
                "metadata": {
                    "generateName": f"{metadata['name']}-",
                    "labels": {**_labels(template), "job-name": metadata["name"]},
                    "ownerReferences": [_owner(job)],
                },
                "spec": template.get("spec") or {},
            },
        )
        now = self.store.stamp()
        condition = {"type": "Complete", "status": "True", "lastTransitionTime": now}
        status = {"succeeded": 1, "startTime": now, "completionTime": now, "conditions": [condition]}
        self.store.set_status(row, self.store.get(row, metadata["namespace"], metadata["name"]), status)

    def _run(self, pod: Object) -> None:
        """Schedules a pod and reports it running, or succeeded when a job owns it."""
        row = self.resources["pods"]
        pod = self._live(row, pod)
        if not pod:
            return
        spec = {"serviceAccountName": "default", "restartPolicy": "Always", **(pod.get("spec") or {})}
        pod = self.store.update(row, pod, {**pod, "spec": {**spec, "nodeName": spec.get("nodeName") or NODE}})
        self._pods += 1
        now = self.store.stamp()
        owners = pod["metadata"].get("ownerReferences") or []
        done = any(owner.get("kind") == "Job" for owner in owners)
        containers = spec.get("containers") or []
        ended = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}}
        status = {
            "phase": "Succeeded" if done else "Running",
            "hostIP": "127.0.0.1",
            "podIP": f"10.244.{self._pods // 250}.{self._pods % 250 + 2}",
            "podIPs": [{"ip": f"10.244.{self._pods // 250}.{self._pods % 250 + 2}"}],
            "qosClass": "BestEffort",
            "startTime": now,
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": now}
                for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
            ],
            "containerStatuses": [
                {
                    "name": container.get("name", ""),
                    "image": container.get("image", ""),
                    "imageID": f"sha256:{hashlib.sha256(str(container.get('image')).encode()).hexdigest()}",
                    "containerID": f"containerd://{self.store.uid().replace('-', '')}",
                    "ready": not done,
                    "started": not done,
                    "restartCount": 0,
                    "state": ended if done else {"running": {"startedAt": now}},
                }
                for container in containers
            ],
        }
        self.store.set_status(row, pod, status)

    def _replace(self, pod: Object) -> None:
        """Its log ends; a pod that its replica set still wants comes back under a new name."""
        self.logs.end(pod["metadata"]["namespace"], pod["metadata"]["name"])
        row = self.resources["replicasets.apps"]
        for owner in pod["metadata"].get("ownerReferences") or []:
            if owner.get("kind") == "ReplicaSet":
                for item in self.store.objects(row, pod["metadata"]["namespace"])[1]:
                    if item["metadata"]["uid"] == owner.get("uid"):
                        self._replicate(item)

    def _owned(self, resource: Resource, owner: Object) -> list[Object]:
        uid = owner["metadata"]["uid"]
        items = self.store.objects(resource, owner["metadata"]["namespace"])[1]
        return [
            item
            for item in items
            if any(reference.get("uid") == uid for reference in item["metadata"].get("ownerReferences") or [])
        ]

    def _live(self, resource: Resource, item: Object) -> Object:
        """The present state of what an event told of; empty when it has gone meanwhile."""
        metadata = item["metadata"]
        try:
            return self.store.get(resource, metadata["namespace"], metadata["name"])
        except Refused:
            return {}


def _bare(value: Any) -> Any:
    """A template without its empty values, which some clients write out and others leave out."""
    if isinstance(value, dict):
        kept = {key: _bare(inner) for key, inner in value.items() if key != "pod-template-hash"}
        return {key: inner for key, inner in kept.items() if inner not in (None, {}, [], "")}
    return [_bare(inner) for inner in value] if isinstance(value, list) else value


def _labels(template: Mapping[str, Any]) -> dict[str, str]:
    return dict((template.get("metadata") or {}).get("labels") or {})


def _owner(item: Object) -> Object:
    return {
        "apiVersion": item["apiVersion"],
        "kind": item["kind"],
        "name": item["metadata"]["name"],
        "uid": item["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
