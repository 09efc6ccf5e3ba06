import pytest
import yaml

from interlock.masking.manifest import DEPTH, EVENTS, LOOKS, masked, parsed


def upper(node):
    """A walk that changes what stands under `secret` and says so."""
    if isinstance(node, dict) and "secret" in node:
        node["secret"] = "MASKED"
        return True
    return False


def rewrite(text):
    return text.replace("hunter2", "REWRITTEN")


TEXT = """\
# top hunter2
---
# Source: a.yaml
apiVersion: v1
kind: A   # a comment
on: true
n: 010
date: 2020-01-01
---
# Source: b.yaml with hunter2

kind: B
secret: x
date: 2020-01-01
version: "1.10"
count: 3
...
"""


def test_a_document_that_did_not_change_stays_as_it_was():
    text = "---\nkind:   A # x\nb: [1,2]\n--- # next\nkind: C\n"
    assert masked(text, upper, rewrite) == text
    assert masked("", upper, rewrite) == ""
    assert masked("---\n\n---\n", upper, rewrite) == "---\n\n---\n"


def test_a_document_that_changed_is_written_anew_and_means_the_same():
    out = masked(TEXT.replace("...\n", ""), upper, rewrite)
    head, first, second = out.split("---\n")
    assert head == "# top REWRITTEN\n"
    assert first == TEXT.split("---\n")[1]
    assert second.startswith("# Source: b.yaml with REWRITTEN\n")
    assert yaml.safe_load(second.replace("2020-01-01", "x")) == {
        "kind": "B",
        "secret": "MASKED",
        "date": "x",
        "version": "1.10",
        "count": 3,
    }


def test_the_last_line_keeps_its_ending():
    assert masked("kind: A\nsecret: x", upper, rewrite) == "kind: A\nsecret: MASKED"


def test_comments_are_text():
    assert masked("kind: A\n  # pw hunter2\nb: 1\n", upper, rewrite) == "kind: A\n  # pw REWRITTEN\nb: 1\n"
    assert masked("kind: A\n--- # hunter2\n", upper, rewrite) == "kind: A\n--- # REWRITTEN\n"


def test_a_document_that_is_no_object_is_text():
    assert masked("just hunter2\n", upper, rewrite) == "just REWRITTEN\n"


def test_yaml_is_read_as_json_would_hold_it():
    assert parsed("a: 2020-01-01\nb: yes\n1: x\nnull: y\nc: 0x10\nd: [1, 2.5, ~]") == {
        "a": "2020-01-01",
        "b": True,
        "1": "x",
        "None": "y",
        "c": 16,
        "d": [1, 2.5, None],
    }


@pytest.mark.parametrize(
    "text",
    [
        "a: {{ .Values.x }}",
        "a: [",
        "a: &x [1]\nb: *x",
        "a: &x {b: 1}\nc:\n  <<: *x",
        "a: {<<: {b: 1}}",
        "a: {!!merge x: {b: 1}}",
        "a: !!binary aHVudGVyMg==",
        "a: !!python/object/apply:os.system [x]",
        "a: !!set {x}",
        "a: 1\n---\nb: 2",
        "[" * (DEPTH + 2) + "]" * (DEPTH + 2),
        "[" * 5000,
        "[" * 200_000 + "]" * 200_000,
        "{a: " * 200_000 + "}" * 200_000,
        "- " * 200_000 + "a",
        "? " * 200_000 + "a",
        "- a\n" * EVENTS,
        "a: 123456789012345678901234567890",
        "a: \udcff",
    ],
)
def test_what_is_no_plain_tree_is_not_parsed(text):
    with pytest.raises(ValueError):
        parsed(text)


def test_a_template_of_a_secret_is_masked_line_by_line():
    text = """\
kind: "Secret"
metadata:
  name: {{ .Release.Name }}
  labels: {a: b}
data:
  # a comment
  {{- if .x }}
  from-values: {{ .Values.x | b64enc }}
  "literal": hunter2
  block: |
    hunter2 and more
  empty: ""
stringData:
  - hunter2
type: hunter2
"""
    out = masked(text, upper, lambda text: text.replace("secret: ", "secret: M:").replace("hunter2", "R"))
    assert out == (
        text.replace('"literal": hunter2', '"literal": M:R')
        .replace("    hunter2 and", "    M:R and")
        .replace("- hunter2", "M:- R")
        .replace("type: hunter2", "type: R")
    )


def test_another_template_is_text():
    assert (
        masked("kind: Job\na: {{ x }}\nb: hunter2\n", upper, rewrite)
        == "kind: Job\na: {{ x }}\nb: REWRITTEN\n"
    )


@pytest.mark.parametrize("text", ["kind: Secret", "a: 1\nkind: 'Pod'", '- kind: "X"', "  kind: Secret"])
def test_what_may_be_a_manifest(text):
    assert LOOKS.search(text)


@pytest.mark.parametrize("text", ["kind of", "mankind: Secret", "a kind: X", "kind:\n"])
def test_what_is_none(text):
    assert not LOOKS.search(text)
