"""What is known to live outside namespaces. That a real API server agrees: tests/cluster/test_policy_scope.py."""

from __future__ import annotations

from interlock.kube.hazards import OWN_GROUPS
from interlock.policy.scope import CLUSTER_SCOPED


def test_only_groups_that_kubernetes_itself_serves() -> None:
    assert {group for group, _ in CLUSTER_SCOPED} <= OWN_GROUPS - {"metrics.k8s.io", "custom.metrics.k8s.io"}


def test_listing_namespaces_counts_as_looking_into_all_of_them() -> None:
    assert ("", "namespaces") not in CLUSTER_SCOPED


def test_what_is_in_namespaces_is_not_in_the_table() -> None:
    assert CLUSTER_SCOPED.isdisjoint(
        {
            ("", "pods"),
            ("", "secrets"),
            ("", "persistentvolumeclaims"),
            ("authorization.k8s.io", "localsubjectaccessreviews"),
            ("certificates.k8s.io", "podcertificaterequests"),
            ("rbac.authorization.k8s.io", "rolebindings"),
            ("resource.k8s.io", "resourceclaims"),
            ("storage.k8s.io", "csistoragecapacities"),
        }
    )
    assert ("", "nodes") in CLUSTER_SCOPED
