import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.masking.text import RULES, rewrite, touches, value_of
from interlock.masking.tokens import minter

MINT = minter(bytes(32))
S = "hunter2/x9+Zq"
T = MINT(S)


def masked(text):
    return rewrite(text, lambda value, name: MINT(value))


# Each S becomes its token, and nothing else changes.
SECRETS = r"""
password=S
PASSWORD = S
password : S
password: S
  password: S   # a comment
- password: S
"password": "S"
'password': 'S'
{"password":"S","user":"bob"}
{"user":"bob", "db_password" : "S"}
{\"password\":\"S\",\"user\":\"bob\"}
{\\\"password\\\":\\\"S\\\"}
"tokens": ["S", 'S',"S"]
tokens: [S, S]
msg="login failed password=S user=bob" level=info
{"msg":"login password=S\n","level":"info"}
I0101 12:00:00.000000       1 auth.go:12] "Login" user="bob" password="S"
2026-01-01T00:00:00Z stdout F token=S
url=http://api/path?token=S&x=1
http://api/path?x=1&access_token=S
jdbc:postgresql://db/app?user=u&password=S&ssl=true
Server=db;User Id=u;Password=S;Encrypt=true
https://bob:S@example.com/path
postgres://u:S@db:5432/app?sslmode=disable
redis://:S@cache:6379/0
amqp://u:S@mq
u:S@tcp(db:3306)/app
DSN value u:S@unix(/tmp/x)/app
config[token]=S
config['token'] = 'S'
token => "S"
password := "S"
secret == "S"
--password S --user bob
--password=S
--password 'S'
-password S
mysql --host db --password=S -u root
args: --api-key S
curl -u bob:S https://api/
curl --user=bob:S https://api/
wget --proxy-user bob:S https://api/
curl -H "X-Api-Key: S" https://api/
X-Api-Key: S
Cookie: S
> Set-Cookie: S
Authorization: S
Authorization: Bearer S
authorization: basic S
{"headers":{"Authorization":"Bearer S"}}
sent with Bearer S today
&{User:bob Password:S Host:db}
{Name:bob, Token:S}
<password>S</password>
<api-key type="x">S</api-key>
export GITHUB_TOKEN=S
ENV GITHUB_TOKEN=S
env A=1 GITHUB_TOKEN=S ./run
(token=S)
[token=S]
token=S, user=bob
token=S; user=bob
1password=S
"name": "DB_PASSWORD", "value": "S"
"name":"DB_PASSWORD","value":"S"
{\"name\":\"DB_PASSWORD\",\"value\":\"S\"}
name: DB_PASSWORD, value: S
redis-auth:S
"""

# What a rule could take for a secret and is none.
OPEN = r"""
nothing here
image: registry.example:5000/team/app@sha256:0123abcd
docker-pullable://registry.example:5000/team/app@sha256:0123abcd
registry.example/vault-token:1.2.3
MountVolume.SetUp failed for volume "v" : secret "db" not found
couldn't find key password in Secret default/db
secretName: db
imagePullSecrets: [regcred]
{"secretKeyRef":{"name":"db","key":"password"}}
secretKeyRef: {name: db, key: password}
credentials: {user: bob}
"credentials": {"user": "bob"}
"credentials": [{"user": "bob"}]
TOKEN_TTL=5m
token_expiry: 3600
password:
password=
password: ""
password: true
password: $(DB_PASSWORD)
PASSWORD=${DB_PASSWORD}
password: {{ .Values.password }}
password: "{{ .Values.password }}"
password = ***
password: |
redis-auth:6379
my-token.default.svc:8080
http://db:80/path
https://example.com/token
basic authentication
the bearer of this
system:serviceaccount:kube-system:token-cleaner
2026-01-01T00:00:00Z
--token-ttl 5m
--secret-name db
--password --user bob
user@example.com
key: value
author: bob
masked-secret-aaaaaaaaaaaaaaaa: text behind a token
<password></password>
max_tokens: 4096
"""


@pytest.mark.parametrize("line", SECRETS.strip("\n").split("\n"))
def test_masks_the_value_and_nothing_else(line):
    text = _put(line, S)
    assert masked(text) == _put(line, T)
    assert touches(text)


@pytest.mark.parametrize("line", OPEN.strip("\n").split("\n"))
def test_leaves_what_is_no_secret(line):
    assert masked(line) == line


def _put(line, value):
    """`line` with `value` for each S that stands for one."""
    return re.sub(r"(?<![A-Za-z\-_])S(?![A-Za-z])", lambda _: value, line)


def test_what_is_masked_is_left():
    for line in SECRETS.strip("\n").split("\n"):
        once = masked(_put(line, S))
        assert masked(once) == once


TEXTS = {
    "a block under a name": (
        "a: 1\npassword: |\n  first\n\n    second\n  third\nb: 2\n",
        f"a: 1\npassword: |\n  {MINT('first\n\n  second\nthird')}\nb: 2\n",
    ),
    "a folded block": ("x:\n  token: >-\n    abc\n  y: 1", f"x:\n  token: >-\n    {MINT('abc')}\n  y: 1"),
    "an environment variable on two lines": (
        "- name: DB_PASSWORD\n  value: hunter2\n- name: LEVEL\n  value: info\n",
        f"- name: DB_PASSWORD\n  value: {MINT('hunter2')}\n- name: LEVEL\n  value: info\n",
    ),
    "a properties file": (
        "# db\r\ndb.user=bob\r\ndb.password=corr'ect \"horse\r\nx=1\r\n",
        f"# db\r\ndb.user=bob\r\ndb.password={MINT('corr\'ect "horse')}\r\nx=1\r\n",
    ),
    "words in YAML": (
        "password: correct horse battery\nx: 1",
        f"password: {MINT('correct horse battery')}\nx: 1",
    ),
    "a private key": (
        "-----BEGIN RSA PRIVATE KEY-----\nMIIabc\ndef=\n-----END RSA PRIVATE KEY-----\nrest",
        f"-----BEGIN RSA PRIVATE KEY-----{MINT('\nMIIabc\ndef=\n')}-----END RSA PRIVATE KEY-----\nrest",
    ),
    "a private key that is cut off": (
        "x -----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn",
        f"x -----BEGIN OPENSSH PRIVATE KEY-----{MINT('\nb3Blbn')}",
    ),
    "a quote inside a quoted value": (
        r'"password": "a\"b", "x": 1',
        f'"password": "{MINT(r"a\"b")}", "x": 1',
    ),
    "a quote that is not closed": ('password="abc def', f'password="{MINT("abc def")}'),
    "colours": (
        "\x1b[01;31m\x1b[Kpassword\x1b[m\x1b[K=hunter2 x",
        f"\x1b[01;31m\x1b[Kpassword\x1b[m\x1b[K={MINT('hunter2')} x",
    ),
    "a very long name": ("x" * 5000 + "_password=hunter2", "x" * 5000 + f"_password={MINT('hunter2')}"),
    "brackets of its own": ("token=ab(c)", f"token={MINT('ab(c)')}"),
    "brackets around it": ("f(token=abc)", f"f(token={MINT('abc')})"),
    "an at in the password": ("ftp://u:p@ss@host/", f"ftp://u:{MINT('p@ss')}@host/"),
    "two on a line": ("user=a password=b token=c", f"user=a password={MINT('b')} token={MINT('c')}"),
    "a secret under an innocent name": ("args=--token=abc", f"args=--token={MINT('abc')}"),
    "not ASCII": ("пароль password=тайна ü", f"пароль password={MINT('тайна')} ü"),
    "undecodable bytes": ("x password=\udcff\udcfe x", f"x password={MINT(b'\xff\xfe')} x"),
    "an assignment on its own line, to the line's end": ("TOKEN=a b\nx", f"TOKEN={MINT('a b')}\nx"),
    "percent-encoded": ("password%3Dhunter2%26user=bob", f"password%3D{MINT('hunter2')}%26user=bob"),
    "upper case": ("PASSWORD: 'Abc'", f"PASSWORD: '{MINT('Abc')}'"),
    "a dotless i, whose lower case is longer": ("İ password=abc", f"İ password={MINT('abc')}"),
}


@pytest.mark.parametrize("what", TEXTS)
def test_masks_values_of_more_than_a_line(what):
    text, expected = TEXTS[what]
    assert masked(text) == expected
    assert touches(text)


def test_the_mask_is_told_the_name():
    seen = []
    rewrite("x db.password=a https://u:b@h/ x", lambda value, name: seen.append((value, name)) or "T")
    assert seen == [("a", "db.password"), ("b", "")]


def test_a_value_behind_a_scheme():
    mask = lambda value, name: f"<{value}>"  # noqa: E731
    assert value_of("Bearer abc", mask, "Authorization") == "Bearer <abc>"
    assert value_of("abc", mask, "x") == "<abc>"
    assert value_of("Basic " + T, mask, "x") == "Basic " + T
    assert value_of(T, mask, "x") == T
    assert value_of("true", mask, "x") == "true"


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    before=st.text(alphabet=" \t\n\"'{}[](),;:&<>=/\\-abcA1.", max_size=30),
    form=st.sampled_from(['"password":"{}"', "password='{}'", "--token={} ", "api_key={}\n", "secret: {}\n"]),
    value=st.text(alphabet="abcXYZ0189+/_.-", min_size=8, max_size=20),
    after=st.text(alphabet=" \t\n\"'{}[](),;:&<>=/\\-abcA1.", max_size=30),
)
def test_no_surrounding_text_uncovers_a_value(before, form, value, after):
    text = before + " " + form.format(value) + after
    assert value not in masked(text).replace(before, "").replace(after, "")
    assert touches(text)
    assert touches(before + after) or masked(before + after) == before + after


HOSTILE = ["a", "password ", "password:", "\\", '"', 'password="', "\\x1b[0m", "\x1b[0m", "://", "a://", "http://a:a",
           "user:=", "curl -u ", "-u a:", "<a", "<password>", "name: password, ", "password: |\n  ", "&a=", "--token ",
           "-----BEGIN PRIVATE KEY-----", "[", "{", "bearer 1", "é", " ", "\n", "@tcp(", "x@"]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_long_hostile_text_is_read_in_one_go(piece):
    """Each rule is linear: were one quadratic, this would not end."""
    text = "password " + piece * (60_000 // len(piece)) + " :// curl @tcp </ value | > bearer private key"
    assert masked(text).startswith("password")


def test_what_a_rule_needs_is_looked_for_in_lower_case():
    assert all(need == need.lower() for rule in RULES for need in rule.needs)
