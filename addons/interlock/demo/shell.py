"""A shell that runs nothing: the commands that `kubectl exec` finds in a pod of the demo.

In: argv, a pod's environment and files, standard input. Out: (channel, bytes) and an exit code.
No process is ever started and no file of this host is ever read: all a command can see is handed
in. To add a command, add a row to COMMANDS.
"""

import base64
import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

STDOUT, STDERR = 1, 2
NOT_FOUND = 127  # POSIX: the exit code of a command that does not exist

type Output = AsyncIterator[tuple[int, bytes]]
type Read = Callable[[], Awaitable[bytes]]
"""Gives the next bytes of standard input, `b""` at its end."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command wrote and how it ended."""

    out: bytes = b""
    err: bytes = b""
    code: int = 0


async def _nothing() -> bytes:
    return b""


@dataclass(slots=True)
class Shell:
    """One container's view: `environment`, `files` by absolute path, and a `sleep` that is handed in."""

    environment: Mapping[str, str]
    files: Mapping[str, bytes]
    sleep: Callable[[float], Awaitable[None]]
    tty: bool = False
    code: int = 0
    _exited: bool = field(default=False)

    async def run(self, argv: tuple[str, ...], read: Read = _nothing) -> Output:
        """Runs one command line, yielding output as it comes; `code` holds the exit code afterwards."""
        name, *rest = argv
        name = name.rpartition("/")[2]
        if name in ("sh", "bash", "ash"):
            if "-c" in rest and rest.index("-c") + 1 < len(rest):
                async for piece in self._script(rest[rest.index("-c") + 1], read):
                    yield piece
            else:
                async for piece in self._interactive(read):
                    yield piece
        elif name == "sleep":
            await self.sleep(_seconds(rest))
            self.code = 0
        elif name == "exit":
            self.code, self._exited = int(rest[0]) if rest and rest[0].isdigit() else self.code, True
        elif name == "cat" and not [word for word in rest if word != "-"]:
            while piece_in := await read():
                yield STDOUT, piece_in
            self.code = 0
        else:
            command = COMMANDS.get(name)
            text = await _all(read) if len(_operands(rest)) <= FILTERS.get(name, -1) else b""
            done = (
                command(self, rest, text)
                if command
                else Done(err=f"sh: {name}: not found\n".encode(), code=NOT_FOUND)
            )
            self.code = done.code
            if done.err:
                yield STDERR, done.err
            if done.out:
                yield STDOUT, done.out

    async def _script(self, script: str, read: Read) -> Output:
        """`;`, newlines, `&&`, `||` and pipes; `$NAME` and `${NAME}`; quotes. No loops, no redirection."""
        try:
            pipelines = _pipelines(script)
        except ValueError as problem:
            self.code = 2
            yield STDERR, f"sh: syntax error: {problem}\n".encode()
            return
        connective = ";"
        for pipeline, following in pipelines:
            skip = (connective == "&&" and self.code != 0) or (connective == "||" and self.code == 0)
            connective = following
            if skip or self._exited:
                continue
            async for piece in self._pipeline(pipeline, read):
                yield piece

    async def _pipeline(self, commands: list[list[str]], read: Read) -> Output:
        *sources, last = ([self._expanded(word) for word in words] for words in commands)
        for words in sources:
            collected = bytearray()
            async for channel, piece in self.run(tuple(words), read):
                if channel == STDOUT:
                    collected += piece
                else:
                    yield channel, piece
            read = _once(bytes(collected))
        async for output in self.run(tuple(last), read):
            yield output

    async def _interactive(self, read: Read) -> Output:
        """A prompt on a terminal, with echo; without one, standard input is a script line by line."""
        prompt = b"$ " if self.tty else b""
        pending = b""
        if prompt:
            yield STDOUT, prompt
        while not self._exited and (typed := await read()):
            if self.tty:
                yield STDOUT, typed.replace(b"\r", b"\r\n")
            *lines, pending = re.split(rb"[\r\n]", pending + typed)
            for line in lines:
                async for channel, piece in self._script(line.decode("utf-8", "replace"), _nothing):
                    yield channel, piece.replace(b"\n", b"\r\n") if self.tty else piece
                if prompt and not self._exited:
                    yield STDOUT, prompt

    def _expanded(self, word: str) -> str:
        if word.startswith("'"):
            return word[1:]
        return re.sub(
            r"\$(?:\{(\w+)\}|(\w+)|(\?))",
            lambda found: str(self.code) if found[3] else self.environment.get(found[1] or found[2], ""),
            word,
        )


def _once(text: bytes) -> Read:
    pieces = [text]

    async def read() -> bytes:
        return pieces.pop() if pieces else b""

    return read


async def _all(read: Read) -> bytes:
    collected = bytearray()
    while piece := await read():
        collected += piece
    return bytes(collected)


def _pipelines(script: str) -> list[tuple[list[list[str]], str]]:
    """Splits a script into pipelines, each with the connective that follows it.

    A word that was in single quotes keeps one leading quote, as the mark not to expand it.
    """
    lexer = shlex.shlex(
        re.sub(r"'([^']*)'", _single_quoted, script.replace("\n", ";")), posix=True, punctuation_chars=";&|"
    )
    lexer.whitespace_split = True
    found: list[tuple[list[list[str]], str]] = []
    pipeline: list[list[str]] = [[]]
    for word in [*lexer, ";"]:
        if word == "|":
            pipeline.append([])
        elif word and not word.strip(";&|"):
            complete = [command for command in pipeline if command]
            if complete:
                found.append((complete, word))
            pipeline = [[]]
        else:
            pipeline[-1].append(word)
    return found


def _single_quoted(found: re.Match[str]) -> str:
    return '"' + "'" + found[1].replace("\\", "\\\\").replace('"', '\\"') + '"'


def _seconds(words: list[str]) -> float:
    try:
        return float(words[0].removesuffix("s"))
    except (IndexError, ValueError):
        return 0.0


def _operands(words: list[str]) -> list[str]:
    return [word for word in words if not word.startswith("-")]


def _read_file(shell: Shell, name: str, path: str) -> Done:
    full = path if path.startswith("/") else f"/{path}"
    if full in shell.files:
        return Done(shell.files[full])
    return Done(err=f"{name}: {path}: No such file or directory\n".encode(), code=1)


def _cat(shell: Shell, words: list[str], text: bytes) -> Done:
    parts = [_read_file(shell, "cat", path) for path in _operands(words)]
    return Done(b"".join(p.out for p in parts), b"".join(p.err for p in parts), max(p.code for p in parts))


def _echo(shell: Shell, words: list[str], text: bytes) -> Done:
    newline = b"\n"
    if words[:1] == ["-n"]:
        words, newline = words[1:], b""
    return Done(" ".join(words).encode() + newline)


def _env(shell: Shell, words: list[str], text: bytes) -> Done:
    return Done("".join(f"{key}={value}\n" for key, value in shell.environment.items()).encode())


def _printenv(shell: Shell, words: list[str], text: bytes) -> Done:
    if not words:
        return _env(shell, words, text)
    known = [shell.environment[word] for word in words if word in shell.environment]
    return Done("".join(f"{value}\n" for value in known).encode(), code=int(len(known) != len(words)))


def _ls(shell: Shell, words: list[str], text: bytes) -> Done:
    folder = (_operands(words) or ["/"])[0].rstrip("/") + "/"
    if folder[:-1] in shell.files:
        return Done(f"{folder[:-1]}\n".encode())
    names = sorted(
        {path.removeprefix(folder).split("/")[0] for path in shell.files if path.startswith(folder)}
    )
    if not names:
        return Done(err=f"ls: {folder[:-1]}: No such file or directory\n".encode(), code=1)
    return Done("".join(f"{name}\n" for name in names).encode())


def _base64(shell: Shell, words: list[str], text: bytes) -> Done:
    operands = _operands(words)
    if operands:
        done = _read_file(shell, "base64", operands[0])
        if done.code:
            return done
        text = done.out
    if "-d" in words:
        try:
            return Done(base64.b64decode(text, validate=False))
        except ValueError:
            return Done(err=b"base64: invalid input\n", code=1)
    return Done(base64.b64encode(text) + b"\n")


def _grep(shell: Shell, words: list[str], text: bytes) -> Done:
    pattern, *paths = _operands(words) or [""]
    for path in paths:
        text += _read_file(shell, "grep", path).out
    fold = str.lower if "-i" in words else str
    lines = [line for line in text.decode("utf-8", "replace").splitlines() if fold(pattern) in fold(line)]
    return Done("".join(f"{line}\n" for line in lines).encode(), code=int(not lines))


def _seq(shell: Shell, words: list[str], text: bytes) -> Done:
    count = int(words[0]) if words and words[0].isdigit() else 0
    return Done("".join(f"{number}\n" for number in range(1, count + 1)).encode())


def _says(words: str) -> Callable[[Shell, list[str], bytes], Done]:
    return lambda shell, rest, text: Done(words.encode() + b"\n")


COMMANDS: dict[str, Callable[[Shell, list[str], bytes], Done]] = {
    "base64": _base64,
    "cat": _cat,
    "echo": _echo,
    "env": _env,
    "false": lambda shell, words, text: Done(code=1),
    "grep": _grep,
    "hostname": lambda shell, words, text: Done(shell.environment.get("HOSTNAME", "").encode() + b"\n"),
    "id": _says("uid=1000(app) gid=1000(app) groups=1000(app)"),
    "ls": _ls,
    "printenv": _printenv,
    "pwd": _says("/"),
    "rev": lambda shell, words, text: Done(b"".join(line[::-1] + b"\n" for line in text.splitlines())),
    "seq": _seq,
    "true": lambda shell, words, text: Done(),
    "whoami": _says("app"),
}
FILTERS = {"base64": 0, "grep": 1, "rev": 0}
"""The commands that read standard input when no file is named, and how many operands come before files."""
