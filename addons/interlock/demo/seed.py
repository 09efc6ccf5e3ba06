"""What is in the demo's cluster at the start: a small shop with things in it that must not get out.

All values are invented. A test that looks for a leak looks for `SECRETS` in what came out.
"""

from interlock.demo.controllers import NODE
from interlock.demo.resources import Object, Resource
from interlock.demo.store import Store
from interlock.demo.workloads import Logs

PASSWORD = "correct-horse-battery-staple-42"
API_KEY = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"
DATABASE = f"postgresql://shop:{PASSWORD}@db.shop.svc:5432/shop"
EMAIL = "customer-17@example.com"
PHONE = "+1 415 555 0132"
SECRETS = (PASSWORD, API_KEY, EMAIL, PHONE)

LOG = (
    "starting shop 3.1.4",
    "connecting to db.shop.svc:5432 user=shop",
    f"debug: config loaded password={PASSWORD} pool=8",
    f"GET /orders/17 200 12ms customer={EMAIL}",
    "GET /healthz 200 1ms",
    f"WARN payment declined for {EMAIL}, phone {PHONE}",
    "GET /orders/18 200 9ms",
)


def _pod_template(app: str, image: str) -> Object:
    return {
        "metadata": {"labels": {"app": app}},
        "spec": {
            "containers": [
                {
                    "name": app,
                    "image": image,
                    "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                    "env": [
                        {"name": "LOG_LEVEL", "value": "info"},
                        {"name": "DB_PASSWORD", "value": PASSWORD},
                        {
                            "name": "PAYMENTS_API_KEY",
                            "valueFrom": {"secretKeyRef": {"name": "payments", "key": "apiKey"}},
                        },
                    ],
                    "envFrom": [{"configMapRef": {"name": "shop-config"}}],
                    "volumeMounts": [{"name": "payments", "mountPath": "/etc/payments", "readOnly": True}],
                }
            ],
            "volumes": [{"name": "payments", "secret": {"secretName": "payments"}}],
        },
    }


def _workload(kind: str, name: str, replicas: int) -> Object:
    template = _pod_template(name, f"registry.example/{name}:3.1.4")
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {
        "kind": kind,
        "apiVersion": "apps/v1",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": spec,
    }


def objects() -> list[tuple[str, str, Object]]:
    """(resource, namespace, object) in the order of creation."""
    node = {
        "metadata": {
            "name": NODE,
            "labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/hostname": NODE},
        },
        "spec": {},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            "nodeInfo": {"kubeletVersion": "v1.36.2"},
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        },
    }
    payments = {
        "metadata": {"name": "payments", "labels": {"app": "shop-web"}},
        "type": "Opaque",
        "stringData": {"password": PASSWORD, "apiKey": API_KEY},
    }
    config = {
        "metadata": {"name": "shop-config"},
        "data": {
            "SUPPORT_EMAIL": EMAIL,
            "SUPPORT_PHONE": PHONE,
            "DATABASE_URL": DATABASE,
            "FEATURES": "search,basket",
        },
    }
    service = {
        "metadata": {"name": "shop-web"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.17",
            "selector": {"app": "shop-web"},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
        },
    }
    return [
        ("nodes", "", node),
        *(
            ("namespaces", "", {"metadata": {"name": name}})
            for name in ("default", "kube-system", "shop", "bulk")
        ),
        ("secrets", "shop", payments),
        ("configmaps", "shop", config),
        ("services", "shop", service),
        ("deployments.apps", "shop", _workload("Deployment", "shop-web", 2)),
        ("deployments.apps", "shop", _workload("Deployment", "shop-db", 1)),
    ]


def fill(store: Store, logs: Logs, resources: dict[str, Resource]) -> None:
    """Puts the shop into an empty store whose controllers are listening, with logs and events."""
    for name, namespace, item in objects():
        store.create(resources[name], namespace, item)
    for pod in store.objects(resources["pods"], "shop")[1]:
        metadata = pod["metadata"]
        for line in LOG:
            logs.append(("shop", metadata["name"], pod["spec"]["containers"][0]["name"]), line)
        event = {
            "metadata": {"name": f"{metadata['name']}.started"},
            "involvedObject": {
                "kind": "Pod",
                "apiVersion": "v1",
                "namespace": "shop",
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "type": "Normal",
            "reason": "Started",
            "message": "Started container",
            "source": {"component": "kubelet"},
            "count": 1,
            "firstTimestamp": store.stamp(),
            "lastTimestamp": store.stamp(),
        }
        store.create(resources["events"], "shop", event)
