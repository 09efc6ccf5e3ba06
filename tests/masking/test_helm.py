import base64
import gzip

import orjson
import pytest

from interlock.masking.helm import LIMIT, TooLarge, closed, files, inflated, manifests, opened

RELEASE = {"name": "web", "info": {"status": "deployed"}, "version": 1, "manifest": "---\nkind: X\n"}


def packed(release, **options):
    return base64.b64encode(gzip.compress(orjson.dumps(release), **options))


def test_opens_what_helm_stores():
    assert opened(packed(RELEASE)) == RELEASE
    assert opened(base64.b64encode(orjson.dumps(RELEASE))) == RELEASE  # before helm compressed
    assert opened(packed(RELEASE) + b"\n") == RELEASE


def test_closes_it_so_that_it_opens_again():
    again = closed(RELEASE)
    assert opened(again) == RELEASE
    assert again == closed(RELEASE)
    assert b"\n" not in again


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not base64!",
        base64.b64encode(b"not json"),
        base64.b64encode(b"[]"),
        base64.b64encode(b"\x1f\x8b not gzip"),
        base64.b64encode(gzip.compress(b"{}")[:-1]),
        base64.b64encode(gzip.compress(b"{}") + gzip.compress(b"{}")),
        base64.b64encode(gzip.compress(b"{}") + b"more"),
    ],
)
def test_what_is_no_release_is_refused(data):
    with pytest.raises(ValueError):
        opened(data)


def test_a_bomb_is_not_unpacked():
    bomb = gzip.compress(b"0" * (LIMIT + 1))
    with pytest.raises(TooLarge, match=f"more than {LIMIT} bytes"):
        inflated(bomb, LIMIT)
    assert len(inflated(bomb, LIMIT + 1)) == LIMIT + 1
    with pytest.raises(TooLarge):
        inflated(bomb, 0)


def test_finds_the_parts_that_hold_text():
    hook, file, template = {"manifest": "h"}, {"name": "f", "data": "Zg=="}, {"name": "t", "data": "dA=="}
    release = {
        "manifest": "m",
        "hooks": [hook, {"manifest": None}, "odd"],
        "chart": {"templates": [template, {"data": None}, None], "files": [file]},
    }
    assert list(manifests(release)) == [release, hook]
    assert list(files(release)) == [template, file]


@pytest.mark.parametrize(
    "release", [{}, {"hooks": None, "chart": None}, {"hooks": {}, "chart": {"files": "x"}}]
)
def test_an_odd_release_has_no_such_parts(release):
    assert list(manifests(release)) == []
    assert list(files(release)) == []
