"""Names that say that their value is a secret: keys, variables, flags, headers, columns.

In: a name as it is written (`DB_PASSWORD`, `apiKey`, `--auth-token`, `client-key-data`). Out: whether its
value is to be masked. The tables here are the one place to change that. A name is read as words; a term
anywhere in it counts, unless the name says in its last word that it holds something *about* the secret.
The rule: in doubt a value is masked.
"""

from __future__ import annotations

import re
from functools import lru_cache


def _words(table: str) -> frozenset[str]:
    return frozenset(table.split())


# Words that count wherever they stand, also at the end of a longer word (PGPASSWORD, authtoken), and their
# plurals, as of all terms here.
STRONG = (
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "credential",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "signingkey",
    "authkey",
    "connectionstring",
    "dockerconfigjson",
    "dockercfg",
)

# Terms of more than one word that count wherever they stand.
PHRASES = (
    "access key",
    "account key",
    "api key",
    "auth key",
    "ca key",
    "certificate key",
    "client key",
    "conn str",
    "conn string",
    "connection string",
    "decryption key",
    "deploy key",
    "encryption key",
    "host key",
    "license key",
    "master key",
    "pass phrase",
    "pass word",
    "private key",
    "root key",
    "server key",
    "service key",
    "session key",
    "shared key",
    "signing key",
    "ssh key",
    "ssl key",
    "storage key",
    "tls key",
)

# Words and terms that count only at the end: too common elsewhere.
ENDINGS = (
    "auth",
    "authorization",
    "bearer",
    "cookie",
    "cred",
    "dbpass",
    "dsn",
    "jwt",
    "otp",
    "pass",
    "psw",
    "pwd",
    "session id",
    "sessionid",
    "userpass",
)

# Terms that look like a reference by their last word and are secrets all the same.
ALWAYS = ("access key id", "secret id", "session id")

# Terms that hold such a word and no secret: read as if they were not there.
NEVER = (
    "public key",
    "public keys",
    "public token",
    "pull secret",
    "pull secrets",
    "existing secret",
    "cached tokens",
    "completion tokens",
    "context tokens",
    "input tokens",
    "max tokens",
    "min tokens",
    "new tokens",
    "num tokens",
    "output tokens",
    "per token",
    "prompt tokens",
    "reasoning tokens",
    "total tokens",
)

# Last words that make a name one of something about the secret.
ABOUT = _words("""
    address addr alg algo algorithm allowed annotations api at audience audiences backend by class controller
    count created creation date days description dir directory disable disabled domain duration enable enabled
    endpoint endpoints env exists exp expiration expire expires expiry expirytime field file filename files
    format generator group header headers hint host hostname hours id ids interval issuer issuers kind label
    labels len length lifetime limit limits location manager max method methods millis min minutes mode mount
    mounts ms name names namespace namespaces operator optional path paths period placeholder policies policy
    port prefix projection provider providers quota reader realm ref reference references refresh refs region
    renewal required request requests retention review reviews role roles rotation rule rules scope scopes sec
    second seconds secs selector server service size state status store stores strategy suffix template time
    timeout timestamp title ttl type types updated uri uris url urls usage used username version volume volumes
    writer zone
    """)

# Last words that say nothing, and are left out before the name is read.
NOISE = _words("""
    b64 backup base64 content contents current data default dev encoded live main new next old plain plaintext
    prev previous primary prod production qa raw secondary staging test text val value values
    """)

# What stands in every sensitive name, in lower case: text without one of these has no such name in it.
TRIGGERS = ("pass", "pwd", "psw", "secret", "token", "key", "cred", "auth", "cookie", "jwt", "bearer", "dsn",
            "otp", "session", "conn", "dockercfg", "dockerconfig")  # fmt: skip

# Keys that take their meaning from the key above them: `password: {value: hunter2}`.
NEUTRAL = frozenset({"content", "data", "default", "inline", "literal", "plain", "plaintext", "raw", "static",
                     "string", "stringvalue", "text", "value", "values"})  # fmt: skip

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_STRONG = re.compile(r"(?:" + "|".join(STRONG) + r")s?\Z")
_PHRASES = re.compile(r" (?:" + "|".join(PHRASES) + r")s? ")
_ENDINGS = re.compile(r" (?:" + "|".join(ENDINGS) + r")s? \Z")
_ALWAYS = re.compile(r" (?:" + "|".join(ALWAYS) + r") \Z")
_NEVER = re.compile(r"(?<= )(?:" + "|".join(NEVER) + r") ")

LONGEST = 256  # characters of a name; of a longer one the end decides


@lru_cache(maxsize=16384)
def sensitive(name: str) -> bool:
    """Whether the value under this name is to be masked."""
    words = [word.lower() for word in _WORDS.findall(name[-LONGEST:])]
    if len(words) > 1 and words[-1] == "64" and words[-2] in ("b", "base"):
        del words[-2:]
    while len(words) > 1 and (words[-1] in NOISE or words[-1].isdigit()):
        words.pop()
    if not words:
        return False
    said = _NEVER.sub("", f" {' '.join(words)} ")
    if _ALWAYS.search(said):
        return True
    if words[-1] in ABOUT:
        return False
    return bool(any(map(_STRONG.search, said.split())) or _PHRASES.search(said) or _ENDINGS.search(said))


def triggers(low: str) -> bool:
    """Whether `low`, in lower case, can hold a sensitive name at all: a quick no for most text."""
    return any(map(low.__contains__, TRIGGERS))


# Values that are no secret whatever their name says: switches, blanks, and references that are resolved
# elsewhere (Kubernetes' $(VAR), the shell's ${VAR}, a template without a literal in it).
BLANKS = _words("""
    true false yes no on off null nil none undefined unset enabled disabled required optional <none> <nil>
    <unset> <set> <redacted> [redacted] redacted * ** *** **** ***** ****** ******** {} [] ""
    """) | {"", "''"}
_REFERENCE = re.compile(r"\$\([A-Za-z_][\w.-]*\)|\$\{[A-Za-z_][\w.-]*\}|\{\{[^{}\"'`]*\}\}")


def blank(value: str) -> bool:
    """Whether `value` is no secret, whatever its name."""
    return len(value) <= 256 and (
        value.strip().lower() in BLANKS or _REFERENCE.fullmatch(value.strip()) is not None
    )
