import shutil

import pytest

from evidence import samples
from interlock.evidence.store import Store


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A directory whose store is prepared: making its views takes a while, copying them does not."""
    directory = tmp_path_factory.mktemp("prepared") / "evidence"
    made = Store(directory, samples.now)
    made.prepare()
    made.publish()
    (directory / "evidence.duckdb").unlink()
    return directory


@pytest.fixture
def directory(tmp_path, prepared):
    """An evidence directory that its first recorder finds prepared."""
    shutil.copytree(prepared, tmp_path / "evidence")
    return tmp_path / "evidence"
