"""Text: secrets in strings that have no structure of their own, and in log and terminal lines.

In: a string. Out: the same with a token in the place of each value that a rule finds. The rules are the table
`RULES`: where a value may begin, and where it ends. A rule with a name masks only under a name that
`names.sensitive` knows. Detectors of other kinds take their place in `rewrite`, beside the rules.
The rule that must not be broken: in doubt more is masked, and what is masked is the value as it would stand in
a Secret, so that it gets the same token there and here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from interlock.masking.names import blank, sensitive, triggers
from interlock.masking.tokens import TOKEN, is_token

Mask = Callable[[str, str], str]  # (value, name) -> what stands in its place

_NAME = r"(?P<name>[\w.\-]++)"
_ANSI = r"(?:\x1b\[[0-9;?]{0,16}[A-Za-z]){0,4}"  # colours stand between a name and its value: grep --color
_SCHEME = r"(?:Bearer|Basic|Token|Digest|Negotiate|ApiKey)[ \t]+"

# Where values end. An unquoted one: at a blank or quote, at an escape of the text around it, or where the
# next name=value begins (query strings, DSNs); it does not begin like an object or list of JSON.
_BARE = (
    r"(?![{\[](?:[\s\"'\\{\[\]}]|[\w.\-]+[\"']?\s*:|\Z))"
    r"(?P<value>(?:(?![&;,|][\w.\-]{1,64}=|\\[nrtu\"'\\]|</|%26)[^\s\"'`])+)"
)
# A quoted one: at the quote that is escaped as the first one was; the end of the line if there is none.
_QUOTED = r"(?P<slash>\\*)(?P<quote>[\"'`])(?P<quoted>(?:(?!(?<!\\)(?P=slash)(?P=quote))[^\n])*)"
_LISTED = r"\[(?P<listed>[^\[\]{}\n]+)\]"
_LINE = r"(?![\"'{\[])(?![|>][+\-0-9]{0,2}[ \t]*$)(?P<value>[^\s][^\n]*?)(?=[ \t]*(?:[ \t]#[^\n]*)?\r?$)"
# To the end of the line, but not into the next name=value.
_ASSIGNED = r"(?![\"'`])(?P<value>(?:(?![&;,|\s][\w.\-]{1,64}=)[^\n\r])+)"


@dataclass(frozen=True, slots=True)
class Rule:
    """what: for people. head: ends where the value begins; its group `name`, if it has one, decides.
    value: matched there; the group that took part says what it is (`_READINGS`).
    needs: lower-case substrings, one of which stands in every text with a match; (): a name's trigger.
    """

    what: str
    head: re.Pattern[str]
    value: re.Pattern[str]
    needs: tuple[str, ...] = ()


def _rule(what: str, head: str, value: str, flags: int = 0, needs: tuple[str, ...] = ()) -> Rule:
    return Rule(what, re.compile(head, flags), re.compile(value, re.MULTILINE), needs)


RULES = (
    _rule(
        "a private key in PEM (RFC 7468)",
        r"-----BEGIN (?:[A-Z0-9 ]{0,40})PRIVATE KEY(?: BLOCK)?-----",
        r"(?P<value>(?s:.*?))(?=-----END |\Z)",
        needs=("private key",),
    ),
    _rule(
        "an authentication scheme and its credentials (RFC 9110, section 11.4)",
        r"\b(?i:Bearer|Basic|Negotiate)[ \t]+(?=[^\s]*[0-9=])",
        r"(?P<value>[A-Za-z0-9._~+/\-]{12,}=*)",
        needs=("bearer", "basic", "negotiate"),
    ),
    _rule(
        "name and value as two fields: an environment variable in JSON or YAML text",
        r"\b(?:name|key)\\*[\"']?\s{0,8}[:=]\s{0,8}\\*[\"']?" + _NAME + r"\\*[\"']?\s{0,8}[,\n]\s{0,64}\\*[\"']?value\\*[\"']?\s{0,8}[:=][ \t]*",
        r"(?:" + _QUOTED + r"|" + _BARE + r")",
        re.IGNORECASE,
        needs=("value",),
    ),
    _rule(
        "a block of YAML under a name",
        r"^(?P<indent>[ \t]*)(?:- )?(?P<q>[\"']?)" + _NAME + r"(?P=q):[ \t]+[|>][+\-0-9]{0,2}[ \t]*\n(?=(?P=indent)[ \t])",
        r"(?P<indent>[ \t]+)(?P<block>[^\n]*(?:\n(?:(?P=indent)[^\n]*|[ \t]*(?=\n)))*)",
        re.MULTILINE,
        needs=("|", ">"),
    ),
    _rule(
        "a line of YAML, a header, a properties file: name: value to the end of the line",
        r"^[ \t]*(?:[<>+*$#-][ \t]+)?(?:export |set )?(?P<q>[\"']?)" + _NAME + r"(?P=q)" + _ANSI + r":[ \t]+" + _ANSI,
        _LINE,
        re.MULTILINE,
    ),
    _rule(
        "an assignment on a line of its own: name=value",
        r"^[ \t]*(?:[<>+*$#-][ \t]+)?(?:export |set |ENV |ARG )?" + _NAME + r"[ \t]{0,8}" + _ANSI + r"=(?![=>])[ \t]{0,8}" + _ANSI,
        _ASSIGNED,
        re.MULTILINE,
    ),
    _rule(
        'name=value, name: value, name := value, name => value, "name": "value", name[key]=value',
        r"(?<![\w.\-])" + _NAME + r"\\*[\"'`]?\]?[ \t]{0,8}" + _ANSI + r"(?::=|=>|={1,3}|%3[Dd]|:(?=\s|\\*[\"'`]))\s{0,8}" + _ANSI,
        r"(?:" + _QUOTED + r"|" + _LISTED + r"|(?:(?i:" + _SCHEME + r"))?" + _BARE + r")",
    ),
    _rule(
        "name:value without a blank, as Go prints structs; not host:port, not an image's tag",
        r"(?<![\w.\-/:@])" + _NAME + r":(?!//|[0-9]{1,5}(?![\w.\-]))",
        _BARE,
    ),
    _rule(
        "--name value",
        r"(?<![^\s\"'])--?(?=\w)" + _NAME + r"[ \t]+(?!-)",
        r"(?:" + _QUOTED + r"|" + _BARE + r")",
    ),
    _rule(
        "an element of XML",
        r"<" + _NAME + r"(?:\s[^<>]{0,512})?>",
        r"(?P<value>[^<>\s][^<>]*)(?=<)",
        needs=("</",),
    ),
    _rule(
        "the password of a URI (RFC 3986, section 3.2.1); not a registry's port before an image's digest",
        r"(?<![A-Za-z0-9+.\-])[A-Za-z][A-Za-z0-9+.\-]{1,31}://[^\s:/?#\[\]@\"'<>]{0,256}:(?![0-9]{1,5}/[^\s@]*@sha[0-9]+:)",
        r"(?P<value>[^\s\"'<>@]{0,512}+(?:@[^\s\"'<>@]{1,512}+){0,3})@",
        needs=("://",),
    ),
    _rule(
        "the password of a MySQL DSN: user:password@tcp(host:port)/name",
        r"(?<![^\s\"'=])[\w.\-]{1,128}:",
        r"(?P<value>[^\s\"'@]{0,256}+(?:@[^\s\"'@]{1,256}+){0,3}?)@(?:tcp6?|unix)\(",
        needs=("@tcp", "@unix"),
    ),
    _rule(
        "user and password of curl and wget",
        r"(?<![^\s\"'])(?:-u|--user|--proxy-user)(?:=|[ \t]{0,8})[\"']?[^\s:\"']{1,128}:",
        r"(?P<value>[^\s\"']+)",
        needs=("curl", "wget"),
    ),
)  # fmt: skip

_CREDENTIALS = re.compile(_SCHEME, re.IGNORECASE)
_STRUCTURE = " \t{}[](),;:.=\\'\"<>|&-"  # of JSON, YAML or a sentence: no value by itself
_OPENERS = {")": "(", "}": "{", "]": "["}


def rewrite(text: str, mask: Mask) -> str:
    """`text` with `mask(value, name)` in the place of each value that a rule finds ("" without a name)."""
    low = text.lower()
    named = triggers(low)
    for rule in RULES:
        if (named or "name" not in rule.head.groupindex) and (
            not rule.needs or any(need in low for need in rule.needs)
        ):
            text = _apply(rule, text, mask)
    return text


def touches(text: str) -> bool:
    """Whether a rule can find anything in `text` at all: a quick no for most of it."""
    return _touches(text) if len(text) > _SHORT else _short_touches(text)


def _touches(text: str) -> bool:
    low = text.lower()
    if any(map(low.__contains__, _SIGNS)) or ("://" in low and "@" in low):
        return True
    return triggers(low) and (low.startswith("-") or any(map(low.__contains__, _SEPARATORS)))


_SHORT = 80
_short_touches = lru_cache(maxsize=32768)(_touches)  # the same words stand in every object

_SIGNS = (
    "@",
    "basic",
    "negotiate",
    "curl",
    "wget",
)  # in a match of each rule without a name, but the next one's
# One of these stands in a match of each other rule: before a name, or between it and its value.
_SEPARATORS = ("=", ":", "<", "%3d", "-----", " -", "\t-", "\n-", "'-", '"-', "bearer")


def value_of(value: str, mask: Mask, name: str) -> str:
    """A value that its name calls a secret, masked; behind an authentication scheme only what follows it."""
    if blank(value) or is_token(value):
        return value
    scheme = _CREDENTIALS.match(value)
    if scheme is None:
        return mask(value, name)
    rest = value[scheme.end() :]
    return scheme[0] + (rest if is_token(rest) else mask(rest, name))


def _apply(rule: Rule, text: str, mask: Mask) -> str:
    pieces: list[str] = []
    named = "name" in rule.head.groupindex
    done = at = 0
    while (head := rule.head.search(text, at)) is not None:
        at = max(head.end(), at + 1)
        name = head["name"] if named else ""
        if named and (not sensitive(name) or TOKEN.search(name)):
            continue  # and on from where the value begins: another name can stand in it
        found = rule.value.match(text, head.end())
        if found is None:
            continue
        group = next(g for g in _READINGS if found.re.groupindex.get(g) and found[g] is not None)
        start, end = found.span(group)
        if group == "value":
            end = _trimmed(text, start, end)
        value = text[start:end]
        if value.strip(_STRUCTURE):
            pieces += (text[done:start], _READINGS[group](value, found, mask, name))
            done = at = end
    if not pieces:
        return text
    pieces.append(text[done:])
    return "".join(pieces)


def _plain(value: str, found: re.Match[str], mask: Mask, name: str) -> str:
    return value_of(value, mask, name)


def _listed(value: str, found: re.Match[str], mask: Mask, name: str) -> str:
    return _ITEM.sub(lambda item: value_of(item[0], mask, name), value)


def _block(value: str, found: re.Match[str], mask: Mask, name: str) -> str:
    return value_of(value.replace("\n" + found["indent"], "\n"), mask, name)


_READINGS = {"value": _plain, "quoted": _plain, "listed": _listed, "block": _block}
_ITEM = re.compile(r"[^\s,\"'`\\][^,\"'`\\]*")


def _trimmed(text: str, start: int, end: int) -> int:
    """The end of an unquoted value without what closes or continues the sentence around it."""
    while end > start + 1:
        last = text[end - 1]
        if last in ",;" or (last in _OPENERS and _OPENERS[last] not in text[start:end]):
            end -= 1
        else:
            break
    return end
