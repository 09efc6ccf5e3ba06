"""Which exceptions are a person's to mend: each one's text is one or more lines that say how."""

from __future__ import annotations

import traceback
from pathlib import Path


class Failed(Exception):
    """A command could not do its work; the text says why and what to do, in one line."""


def expected() -> tuple[type[Exception], ...]:
    """Those exceptions. A function, since the rooms that define them are not imported by every command."""
    from interlock.authority import AuthorityError
    from interlock.credential import CredentialError
    from interlock.documents import DocumentError
    from interlock.identity.sessions import Away

    return (Failed, AuthorityError, CredentialError, DocumentError, Away, OSError)


def lines(error: Exception) -> list[str]:
    """What to tell a person of an exception of `expected`: at least one line."""
    if isinstance(error, OSError) and error.strerror:
        about = f"{error.filename}: " if error.filename else ""
        return [f"{about}{error.strerror.lower()}; check the path, its permissions and the disk"]
    return str(error).splitlines() or [type(error).__name__]


def fault(error: Exception) -> str:
    """What to tell of any other: where it happened, never its text, which may quote a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"a fault of its own: {type(error).__name__}{place}; please report it (INTERLOCK_TRACEBACK=1 shows more)"
