"""Policy files: paths in, one `PolicySet` out, or every problem of every file.

The rule that must not be broken: the whole set loads or none of it does; a path that leads to no policy is a
problem, never an empty set.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from interlock.documents import Document, DocumentError, Problem, nearest, read
from interlock.policy.engine import PolicySet
from interlock.policy.model import Policy

SUFFIXES = frozenset({".yaml", ".yml", ".json"})


def load_policies(paths: Iterable[Path], *, clusters: Collection[str] | None) -> PolicySet:
    """The policies in `paths`: files, or folders of which each *.yaml, *.yml and *.json file is read.

    clusters: the configured clusters' names; a rule that names another is refused, since a deny with a
    misspelt cluster would deny nothing. None: not known, not checked. Raises DocumentError with all problems.
    """
    problems: list[Problem] = []
    policies: list[Policy] = []
    texts: dict[str, str] = {}
    first: dict[str, str] = {}
    for file in _files(paths, problems):
        try:
            documents = read(file)
        except DocumentError as error:
            problems.extend(error.problems)
            continue
        texts[str(file)] = documents[0].text
        for document in documents:
            policy, found = document.validate(Policy)
            problems.extend(found)
            problems.extend(document.duplicates(("spec", "rules"), "name"))
            if policy is None:
                continue
            name = policy.metadata.name
            place = f"{document.file}:{document.values[('metadata', 'name')][0]}"
            if first.setdefault(name, place) != place:
                message = f"the policy at {first[name]} is called so too; give each its own name"
                problems.append(document.problem(("metadata", "name"), message))
            if clusters is not None:
                problems.extend(_unknown_clusters(document, policy, clusters))
            policies.append(policy)
    if problems:
        raise DocumentError(problems)
    return PolicySet(policies, texts)


def _files(paths: Iterable[Path], problems: list[Problem]) -> Iterator[Path]:
    """Each file once, in order. Hidden entries of a folder are left out: a mounted ConfigMap has some."""
    seen: set[Path] = set()
    for path in paths:
        files = [path]
        if path.is_dir():
            files = sorted(
                f for f in path.iterdir() if f.suffix in SUFFIXES and f.name[0] != "." and not f.is_dir()
            )
            if not files:
                problems.append(
                    Problem(str(path), 0, 0, "", "holds no policy file (*.yaml); add one, or name a file")
                )
        for file in files:
            real = file.resolve()
            if real not in seen:
                seen.add(real)
                yield file


def _unknown_clusters(document: Document, policy: Policy, clusters: Collection[str]) -> Iterator[Problem]:
    for i, rule in enumerate(policy.spec.rules):
        for j, pattern in enumerate(rule.match.clusters or ()):
            name = pattern.removeprefix("!")
            if "*" not in name and name not in clusters:
                known = nearest(name, sorted(clusters), "the clusters are")
                message = f"no cluster is called so; {known} (a pattern such as {name}* may match none)"
                yield document.problem(("spec", "rules", i, "match", "clusters", j), message)
