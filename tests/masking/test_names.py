import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.masking.names import ALWAYS, ENDINGS, PHRASES, STRONG, blank, sensitive, triggers

SECRET = [
    "password",
    "PASSWORD",
    "Password",
    "passwd",
    "DB_PASSWORD",
    "PGPASSWORD",
    "POSTGRES_PASSWORD",
    "mysql-root-password",
    "spring.datasource.password",
    "userPassword",
    "password2",
    "PASSWORD_OLD",
    "password-old",
    "passwordBase64",
    "password_hash",
    "passphrase",
    "SSH_KEY_PASSPHRASE",
    "DB_PASS",
    "dbPass",
    "redis.pass",
    "pwd",
    "DB_PWD",
    "secret",
    "SECRET",
    "SECRET_VALUE",
    "client_secret",
    "clientSecret",
    "secretKey",
    "SECRET_KEY",
    "secret_key_base",
    "JWT_SECRET",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "accessKey",
    "account-key",
    "storageKey",
    "secret_id",
    "token",
    "TOKEN",
    "authToken",
    "GITHUB_TOKEN",
    "TOKEN_GITHUB",
    "bearer-token",
    "refreshToken",
    "SLACK_BOT_TOKEN",
    "oauthToken",
    "tokens",
    "apiKey",
    "API_KEY",
    "api-key",
    "apikey",
    "X-Api-Key",
    "x-api-key",
    "OPENAI_API_KEY",
    "apiKeys",
    "credential",
    "credentials",
    "creds",
    "GIT_CREDENTIALS",
    "aws-creds",
    "private_key",
    "PRIVATE_KEY",
    "privateKey",
    "ssh-privatekey",
    "SSH_PRIVATE_KEY",
    "tls.key",
    "ca.key",
    "client-key-data",
    "ENCRYPTION_KEY",
    "signingKey",
    "masterKey",
    "sessionKey",
    "license-key",
    "auth",
    "REDIS_AUTH",
    "Authorization",
    "Proxy-Authorization",
    "cookie",
    "Set-Cookie",
    "session_id",
    "SESSIONID",
    "JWT",
    "jwt",
    "bearer",
    "OTP",
    "dsn",
    "DATABASE_DSN",
    "connectionString",
    "ConnectionStrings",
    "CONN_STR",
    "AZURE_CONNECTION_STRING",
    ".dockerconfigjson",
    ".dockercfg",
    "publicKeyPassword",
    "password.txt_value",
]

OPEN = [
    "PATH",
    "name",
    "key",
    "value",
    "user",
    "username",
    "host",
    "port",
    "id",
    "uid",
    "image",
    "data",
    "metadata",
    "labels",
    "secretName",
    "SECRET_NAME",
    "secretRef",
    "secretKeyRef",
    "secretNamespace",
    "existingSecret",
    "imagePullSecret",
    "imagePullSecrets",
    "TOKEN_TTL",
    "TOKEN_EXPIRY",
    "tokenExpirationSeconds",
    "TOKEN_PATH",
    "token_url",
    "TOKEN_REFRESH_INTERVAL",
    "tokenReview",
    "PASSWORD_FILE",
    "POSTGRES_PASSWORD_FILE",
    "PASSWORD_MIN_LENGTH",
    "password_policy",
    "passwordResetUrl",
    "AUTH_URL",
    "auth-type",
    "AUTH_ENABLED",
    "AUTH0_DOMAIN",
    "oauth2-proxy",
    "author",
    "AUTHOR",
    "authority",
    "COOKIE_DOMAIN",
    "cookie-name",
    "JWT_ISSUER",
    "JWT_ALGORITHM",
    "jwtAudience",
    "publicKey",
    "PUBLIC_KEY",
    "ssh_public_key",
    "KEY_ID",
    "kmsKeyId",
    "keyboard",
    "monkey",
    "key_path",
    "API_KEY_NAME",
    "MAX_TOKENS",
    "max_tokens",
    "max_output_tokens",
    "totalTokens",
    "promptTokens",
    "tokens_per_second",
    "passenger",
    "bypass",
    "compass",
    "passthrough",
    "pass-through",
    "PASS_THROUGH",
    "tokenizer",
    "secretary",
    "SECRETS_PROVIDER",
    "secretStore",
    "credentialName",
    "CREDENTIAL_HELPER_PATH",
    "serviceAccountName",
    "resourceVersion",
    "continue",
    "1",
    "_",
    "-",
]


@pytest.mark.parametrize("name", SECRET)
def test_names_of_secrets(name):
    assert sensitive(name)
    assert triggers(name.lower()), "text with this name in it would not be looked at"


@pytest.mark.parametrize("name", OPEN)
def test_names_of_what_is_no_secret(name):
    assert not sensitive(name)


def test_the_empty_name_is_no_secrets():
    assert not sensitive("")


@settings(derandomize=True, max_examples=300)
@given(
    term=st.sampled_from([*STRONG, *PHRASES, *ENDINGS, *ALWAYS]),
    before=st.sampled_from(["", "db ", "my app ", "x 1 "]),
    form=st.sampled_from(["_", "-", ".", "camel", "UPPER"]),
)
def test_every_term_counts_in_every_way_to_write_it(term, before, form):
    words = (before + term).split()
    if form == "camel":
        name = words[0] + "".join(word.capitalize() for word in words[1:])
    elif form == "UPPER":
        name = "_".join(words).upper()
    else:
        name = form.join(words)
    assert sensitive(name)
    assert triggers(name.lower())


def test_of_a_long_name_the_end_decides():
    assert sensitive("x" * 100_000 + "_password")
    assert not sensitive("password_" + "x" * 100_000)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "true",
        "False",
        "none",
        "<none>",
        "****",
        "$(DB_PASSWORD)",
        "${DB_PASSWORD}",
        "{{ .Values.password }}",
    ],
)
def test_values_that_are_no_secret_whatever_their_name(value):
    assert blank(value)


@pytest.mark.parametrize(
    "value",
    [
        "hunter2",
        "trueish",
        "$ECRET",
        "$(DB_PASSWORD)x",
        "${DB_PASSWORD:-hunter2}",
        '{{ .Values.password | default "hunter2" }}',
        "$(" + "A" * 300 + ")",
    ],
)
def test_values_that_may_be_one(value):
    assert not blank(value)
