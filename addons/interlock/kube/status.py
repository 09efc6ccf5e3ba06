"""Kubernetes `Status` answers: what the gateway says to an agent, in the form that every client prints.

In: an HTTP code and a message. Out: the JSON bytes of a metav1.Status (apimachinery, meta/v1/types.go).
The rule: the message is one line, and whatever the agent put into it is visible as text, never as control
characters for a terminal.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import orjson

# metav1.StatusReason for each code that the gateway answers (apimachinery, api/errors/errors.go). client-go
# decides by the reason, people read the message.
REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    408: "Timeout",
    409: "Conflict",
    410: "Gone",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    502: "ServiceUnavailable",
    503: "ServiceUnavailable",
    504: "Timeout",
}

# Categories that move a cursor, hide or reorder text, or are no characters at all (Unicode, chapter 4.5).
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def one_line(text: str) -> str:
    """`text` on one line: every control, format, surrogate or unassigned character as its escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if unicodedata.category(c) not in _INVISIBLE else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def status(
    code: int,
    message: str,
    *,
    reason: str | None = None,
    name: str = "",
    group: str = "",
    kind: str = "",
    causes: Sequence[tuple[str, str, str]] = (),
    retry_after: int | None = None,
) -> bytes:
    """The JSON of a failed `Status`.

    code: HTTP status, 400 to 599; `reason` is the code's own unless given. causes: (reason, message, field)
    each. retry_after: whole seconds, told in `details` too. kubectl prints nothing but the causes of an
    Invalid that names an object, so such a one carries the message as a cause as well.
    Raises ValueError for a code that is no failure.
    """
    if not 400 <= code <= 599:
        raise ValueError(f"{code} is no failure: a Status of ours has a code from 400 to 599")
    message = one_line(message)
    word = reason or REASONS.get(code) or ("BadRequest" if code < 500 else "InternalError")
    if word == "Invalid" and (name or kind) and not causes:
        causes = (("FieldValueInvalid", message, ""),)
    details: dict[str, object] = {
        key: one_line(value) for key, value in (("name", name), ("group", group), ("kind", kind)) if value
    }
    if causes:
        details["causes"] = [
            {"reason": one_line(why), "message": one_line(text)}
            | ({"field": one_line(field)} if field else {})
            for why, text, field in causes
        ]
    if retry_after is not None:
        details["retryAfterSeconds"] = retry_after
    answer: dict[str, object] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": word,
    }
    if details:
        answer["details"] = details
    answer["code"] = code
    return orjson.dumps(answer)
