"""Which exceptions are a person's to mend: each one's text is one or more lines that say how."""

from __future__ import annotations


class Failed(Exception):
    """A command could not do its work; the text says why and what to do, in one line."""


def expected() -> tuple[type[Exception], ...]:
    """Those exceptions. A function, since the rooms that define them are not imported by every command."""
    from interlock.authority import AuthorityError
    from interlock.credential import CredentialError
    from interlock.documents import DocumentError
    from interlock.identity.sessions import Away

    return (Failed, AuthorityError, CredentialError, DocumentError, Away, OSError)
