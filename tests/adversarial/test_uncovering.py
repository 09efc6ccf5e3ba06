"""The agent changes what a value stands beside, or cuts it short, to read it without knowing it."""

from __future__ import annotations

import re
import string

import pytest

from adversarial.conftest import SHOP, Seat, shown
from interlock.demo import seed

pytestmark = pytest.mark.processes

DEPLOYMENT = "/apis/apps/v1/namespaces/shop/deployments/shop-web"
CONTAINER = "/spec/template/spec/containers/0"


@pytest.mark.parametrize(
    ("path", "operations"),
    [
        (DEPLOYMENT, [{"op": "replace", "path": f"{CONTAINER}/env/1/name", "value": "NOTE"}]),
        (DEPLOYMENT, [{"op": "add", "path": f"{CONTAINER}/env/1/name", "value": "NOTE"}]),
        (
            f"{SHOP}/configmaps/shop-config",
            [{"op": "move", "from": "/data/DATABASE_URL", "path": "/data/note"}],
        ),
        (
            f"{SHOP}/secrets/payments",
            [
                {"op": "add", "path": "/metadata/annotations", "value": {}},
                {"op": "copy", "from": "/data/password", "path": "/metadata/annotations/note"},
            ],
        ),
        (f"{SHOP}/secrets/payments", [{"op": "copy", "from": "/data/password", "path": "/type"}]),
    ],
)
@pytest.mark.parametrize("query", ["", "?dryRun=All"])
def test_a_json_patch_does_not_take_a_value_from_its_name(
    seat: Seat, path: str, operations: list[dict[str, str]], query: str
) -> None:
    answer = seat.patch("json", path + query, operations)
    assert answer.status_code in (403, 422), answer.text
    assert shown(answer) == []
    assert not [target for target in seat.arrived(path) if target.startswith("PATCH")]
    assert shown(seat.ask("GET", path)) == []


def test_a_strategic_merge_does_not_take_the_flag_from_before_a_value(seat: Seat) -> None:
    patch = {"name": "shop-web", "$deleteFromPrimitiveList/args": ["--password"]}
    answer = seat.patch(
        "strategic",
        f"{DEPLOYMENT}?dryRun=All",
        {"spec": {"template": {"spec": {"containers": [patch]}}}},
    )
    assert answer.status_code == 422, answer.text


def test_the_masks_of_a_values_beginnings_do_not_spell_it(seat: Seat) -> None:
    """limitBytes ends a log inside the password; the mask of what is left equals that of a guess."""
    pod = seat.ask("GET", f"{SHOP}/pods").json()["items"][0]["metadata"]["name"]
    log = f"{SHOP}/pods/{pod}/log"
    before = seat.ask("GET", log).text.partition("password=")[0] + "password="
    found = ""
    for _ in range(4):
        cut = seat.ask("GET", f"{log}?limitBytes={len(before) + len(found) + 1}").text
        mask = re.search(r"masked-[a-z0-9-]+", cut)
        guesses = {f"k{n}.password": found + letter for n, letter in enumerate(string.ascii_lowercase)}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "g"}, "data": guesses}
        masks = seat.ask("POST", f"{SHOP}/configmaps?dryRun=All", body).json()["data"]
        assert len(set(masks.values())) == len(guesses)
        found += next((guesses[k][-1] for k, v in masks.items() if mask and v == mask[0]), "")
    assert not seed.PASSWORD.startswith(found) or found == ""


@pytest.mark.parametrize("beyond", [1, 5, 20, 31, 32])
def test_no_part_of_a_cut_line_is_released(seat: Seat, beyond: int) -> None:
    pod = seat.ask("GET", f"{SHOP}/pods").json()["items"][0]["metadata"]["name"]
    log = f"{SHOP}/pods/{pod}/log"
    whole = seat.ask("GET", log).text
    length = len(whole.partition("password=")[0]) + len("password=") + beyond
    cut = seat.ask("GET", f"{log}?limitBytes={length}").text
    assert cut.endswith("\n")
    assert whole.startswith(cut)
