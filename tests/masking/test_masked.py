import dataclasses

import pytest

from interlock.masking.masked import SEAL, Finding, Masked, Unmaskable


def test_nothing_outside_masking_makes_a_masked():
    with pytest.raises(TypeError, match=r"only interlock\.masking makes"):
        Masked(b"clear")
    with pytest.raises(TypeError):
        Masked(b"clear", (), (), None)
    with pytest.raises(TypeError):
        Masked(b"clear", seal=object())


def test_a_masked_cannot_be_turned_into_another():
    masked = Masked(b"data", (Finding("secret", "data.x", "masked-secret-a"),), seal=SEAL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        masked.data = b"clear"
    with pytest.raises(TypeError):
        dataclasses.replace(masked, data=b"clear", seal=None)
    assert (masked.data, masked.frames, len(masked.findings)) == (b"data", (), 1)
    assert not hasattr(masked, "seal") or masked.seal is None


def test_unmaskable_tells_its_reason():
    assert Unmaskable("why").reason == str(Unmaskable("why")) == "why"
