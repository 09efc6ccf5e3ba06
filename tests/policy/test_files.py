"""Policy files: the whole set loads, or every problem of every file is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.documents import DocumentError
from interlock.policy import load_policies
from policy.asking import AGENT, allow, allowed, ask, deny, document, other, resource

ROOT = Path(__file__).parents[2]


def write(path: Path, *documents: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump_all(documents))
    return path


def problems(*paths: Path, clusters: Any = ("dev", "prod")) -> list[str]:
    with pytest.raises(DocumentError) as error:
        load_policies(paths, clusters=clusters)
    return str(error.value).splitlines()


def test_files_folders_and_several_documents(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "b.yml", document(allow(), name="b"))
    (folder / "a.json").write_text(json.dumps(document(allow(), name="a")))
    (folder / "README.md").write_text("not a policy")
    (folder / ".hidden.yaml").write_text("not a policy")
    (folder / "sub.yaml").mkdir()
    single = write(tmp_path / "c.yaml", document(allow(), name="c"), document(allow(), name="d"))
    rules = load_policies([folder, single], clusters=["dev"])
    assert [policy.metadata.name for policy in rules.policies] == ["a", "b", "c", "d"]
    assert rules.files == {str(p): p.read_text() for p in (folder / "a.json", folder / "b.yml", single)}
    assert load_policies([single, folder, single, folder / "b.yml"], clusters=["dev"]).digest == rules.digest


def test_a_mounted_configmap_is_read_once(tmp_path: Path) -> None:
    """Kubernetes mounts one as links to ..data/FILE, and ..data is a link to a dated folder."""
    write_to = tmp_path / "..2026_01_01"
    write_to.mkdir()
    write(write_to / "p.yaml", document(allow()))
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "p.yaml").symlink_to("..data/p.yaml")
    assert len(load_policies([tmp_path], clusters=None).policies) == 1


def test_all_problems_of_all_files_at_once(tmp_path: Path) -> None:
    a = write(
        tmp_path / "a.yaml", document(allow(verbs=["gett"]), {"effect": "deny"}), document(deny(), name="q")
    )
    (tmp_path / "b.yaml").write_text("a: [")
    (tmp_path / "c.yaml").write_text("")
    write(tmp_path / "d.yaml", document(deny(), name="q"))
    (tmp_path / "empty").mkdir()
    found = problems(
        a,
        tmp_path / "b.yaml",
        tmp_path / "c.yaml",
        tmp_path / "d.yaml",
        tmp_path / "empty",
        tmp_path / "none.yaml",
    )
    names = [line.removeprefix(f"{tmp_path}/").split(":")[0] for line in found]
    assert names == ["a.yaml", "a.yaml", "b.yaml", "c.yaml", "d.yaml", "empty", "none.yaml"]
    assert "did you mean get?" in found[0]
    assert "metadata.name: the policy at " in found[4]
    assert f"{a}:" in found[4].split("at ")[1]
    assert found[5].endswith("holds no policy file (*.yaml); add one, or name a file")


def test_rules_of_one_name(tmp_path: Path) -> None:
    path = write(tmp_path / "p.yaml", document({**allow(), "name": "a"}, {**deny(), "name": "a"}))
    (line,) = problems(path)
    assert "spec.rules[1].name: the same name as on line " in line


def test_a_cluster_that_is_not_configured_is_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.yaml", document(deny(clusters=["*", "!prd", "prod", "x-*"]), deny(clusters=["zzz"]))
    )
    found = [line.split(": ", 1)[1] for line in problems(path)]
    assert found == [
        "spec.rules[0].match.clusters[1]: no cluster is called so; did you mean prod? "
        "(a pattern such as prd* may match none)",
        "spec.rules[1].match.clusters[0]: no cluster is called so; the clusters are: dev, prod "
        "(a pattern such as zzz* may match none)",
    ]
    assert load_policies([path], clusters=None).policies


def test_another_kind_is_refused(tmp_path: Path) -> None:
    shutil.copy(ROOT / "rules" / "gateway.yaml", tmp_path / "gateway.yaml")
    (line,) = problems(tmp_path)
    assert line.endswith("kind: expected one of: Policy")


def test_no_paths_give_no_policies_and_so_refuse_everything() -> None:
    assert not allowed(load_policies([], clusters=None), resource("get", "pods", name="a"))


def test_the_example_in_rules() -> None:
    rules = load_policies([ROOT / "rules" / "policy.yaml"], clusters=["dev"])
    shop = {"namespace": "shop-a"}
    assert AGENT.groups[0] == "agents"
    for info in (
        other("get", "/api"),
        other("get", "/version"),
        resource("list", "pods", **shop),
        resource("get", "pods/log", name="web", **shop),
        resource("watch", "deployments", group="apps", **shop),
        resource("list", "nodes", namespace=""),
        resource("get", "namespaces", namespace="shop-a", name="shop-a"),
    ):
        assert allowed(rules, info), info
    for info in (
        other("get", "/metrics"),
        resource("list", "pods", namespace=""),
        resource("list", "pods", namespace="prod"),
        resource("get", "secrets", name="db", **shop),
        resource("delete", "pods", name="web", **shop),
        resource("get", "widgets", group="x.io", name="a", **shop),
    ):
        assert not allowed(rules, info), info
    assert ask(rules, resource("get", "secrets", name="db", **shop)).rule == "no-secrets"
    assert not allowed(
        rules, resource("get", "pods/exec", name="web", namespace="shop-test"), classes=["connect"]
    )


def test_the_rules_that_the_example_shows_as_comments(tmp_path: Path) -> None:
    text = (ROOT / "rules" / "policy.yaml").read_text()
    lines = text.splitlines()
    begin = lines.index("  # - name: exec-in-shop-test")
    shown = [line.replace("  # ", "  ", 1) for line in lines[begin:] if line.strip() not in ("#", "")]
    opened = [
        line for line in shown if not line.startswith("  A port-forward") and not line.startswith("  counted")
    ]
    (tmp_path / "policy.yaml").write_text("\n".join(lines[:begin] + opened))
    rules = load_policies([tmp_path], clusters=["dev"])
    for sub in ("exec", "attach", "portforward"):
        info = resource("get", f"pods/{sub}", name="web", namespace="shop-test")
        decision = ask(rules, info, classes=["connect"])
        assert (decision.effect, decision.unmasked) == ("allow", sub == "portforward")
        assert not allowed(
            rules, resource("get", f"pods/{sub}", name="web", namespace="shop-a"), classes=["connect"]
        )


def test_the_example_in_the_documentation(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "policy.md").read_text()
    (tmp_path / "p.yaml").write_text(text.split("```yaml\n", 1)[1].split("```", 1)[0])
    rules = load_policies([tmp_path], clusters=["dev", "prod"])
    assert allowed(
        rules, resource("patch", "deployments/scale", name="web", namespace="shop-a", group="apps")
    )
    refused = ask(rules, resource("get", "secrets", name="db", namespace="prod"), cluster="prod")
    assert refused.rule == "no-secrets-prod"
