"""The table of messages: that it is whole, and what the absence of a field means in JSON."""

import pytest

from interlock.kube.protobuf.table import Field, Message, load


def test_the_table_names_the_versions_that_it_was_made_from() -> None:
    modules = load().modules
    assert sorted(modules) == [
        "k8s.io/api",
        "k8s.io/apiextensions-apiserver",
        "k8s.io/apimachinery",
        "k8s.io/kube-aggregator",
        "k8s.io/metrics",
    ]
    assert set(modules.values()) == {"v0.36.2"}


def test_no_message_has_two_fields_of_one_number_or_one_name() -> None:
    for message in load().messages.values():
        assert len(message.by_tag) == len(message.fields) == len({field.number for field in message.fields})
        names = [field.name for field in message.fields if field.shape != "inline"]
        assert len(set(names)) == len(names)


def test_every_kind_is_an_object() -> None:
    for of_version in load().kinds.values():
        for message in of_version.values():
            assert message.form is None
            assert not message.is_list


LIST = Message("List", (Field(1, "items", "string", "list", "empty"),), is_list=True)
STRUCT = Message("Struct")
# encoding/json: what is left out when it is absent, and when it is there and empty; what absence means otherwise.
ABSENCE = [
    (Field(1, "a", "string", "one", "always"), False, False, ""),
    (Field(1, "a", "bytes", "one", "always"), False, False, None),
    (Field(1, "a", "bool", "one", "always"), False, False, False),
    (Field(1, "a", "int32", "one", "always"), False, False, 0),
    (Field(1, "a", "double", "one", "always"), False, False, 0.0),
    (Field(1, "a", "int64", "one", "empty"), True, True, 0),
    (Field(1, "a", "int64", "one", "absent"), True, False, 0),
    (Field(1, "a", "int64", "one", "null"), False, False, None),
    (Field(1, "a", "string", "list", "always"), False, False, None),
    (Field(1, "a", "string", "list", "empty"), True, True, None),
    (Field(1, "a", "message", "map", "always", STRUCT), False, False, None),
    (Field(1, "a", "message", "map", "empty", STRUCT), True, True, None),
    (Field(1, "a", "message", "one", "always", STRUCT), False, False, STRUCT),
    (Field(1, "a", "message", "inline", "always", STRUCT), False, False, STRUCT),
    (Field(1, "a", "message", "one", "empty", STRUCT), False, False, STRUCT),
    (Field(1, "a", "message", "one", "zero", STRUCT), True, False, STRUCT),
    (Field(1, "a", "message", "one", "absent", STRUCT), True, False, STRUCT),
    (Field(1, "a", "message", "one", "null", STRUCT), False, False, None),
    (Field(1, "a", "message", "one", "always", LIST), False, False, None),
    (Field(1, "a", "message", "one", "empty", LIST), True, True, None),
]


@pytest.mark.parametrize(("field", "drops_absent", "drops_empty", "zero"), ABSENCE)
def test_absence_means_what_encoding_json_makes_of_it(
    field: Field, drops_absent: bool, drops_empty: bool, zero: object
) -> None:
    assert (field.drops_absent, field.drops_empty) == (drops_absent, drops_empty)
    assert (field.zero if field.zero_message is None else field.zero_message) is zero or zero == field.zero
    assert (field in Message("M", (field,)).always) == (not drops_absent)


def test_only_the_zero_time_is_dropped_as_null() -> None:
    assert [f.name for m in load().messages.values() for f in m.fields if f.drops_null] == [
        "creationTimestamp"
    ]


def test_a_map_is_read_by_its_entries() -> None:
    table = load()
    secret = {field.name: field for field in table.kinds["v1"]["Secret"].fields}
    entry = secret["data"].message
    assert entry is not None
    assert [(f.number, f.name, f.kind, f.zero) for f in entry.fields] == [
        (1, "key", "string", ""),
        (2, "value", "bytes", ""),
    ]
    review = table.messages["k8s.io.api.authentication.v1.UserInfo"]
    extra = next(field.message for field in review.fields if field.name == "extra")
    assert extra is not None
    assert extra.fields[1].zero_message is table.messages["k8s.io.api.authentication.v1.ExtraValue"]
