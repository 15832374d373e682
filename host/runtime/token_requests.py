"""Asks for a token: an OAuth token endpoint over the one road out, or a program. Bounded in time and size; no error
holds a secret, an argument of the program, or what came."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Final

from host.core import environment
from host.core.limits import Limits
from host.core.names import SecretName
from host.egress import AddressPolicy, Egress, EgressError, Outgoing, TlsByOrigin, TlsFiles
from host.errors import TokenUnavailable
from host.policy.addresses import Address
from host.policy.tls import TlsRule
from host.policy.urls import Origin
from host.store.vault.tokens import (
    MAX_ANSWER_BYTES,
    CommandSource,
    Issued,
    OAuthSource,
    TokenAnswerError,
    TokenSource,
    read_printed,
    read_token_answer,
)

MAX_S: Final = 20.0
"""How long asking may take."""

_LOOK_S: Final = 0.005  # between two looks whether a program has ended that has closed its output
_END_S: Final = 1.0  # for a program to end that was killed: one of another user cannot be
_WAITS: Final = Limits(connect_timeout_s=5.0, first_byte_timeout_s=15.0, idle_timeout_s=5.0)


class _Until:
    """A Deadline of its own: several runs may wait for one token, and none of them cancels it."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def remaining(self) -> float:
        return self._until - time.monotonic()

    def interruptible(self, abort: Callable[[], None]) -> AbstractContextManager[None]:
        del abort
        return nullcontext()


class _PrivateAlone(AddressPolicy):
    """For plain http: no secret goes over a public network as it is, whatever a name resolves to."""

    def accepts(self, origin: Origin, address: Address) -> bool:
        return super().accepts(origin, address) and any(address in network for network in self.private)


def ask(source: TokenSource, name: SecretName, egress: Egress, seconds: float = MAX_S) -> Issued:
    """A token of `source`, for the secret `name`. Raises TokenUnavailable, PolicyError."""
    match source:
        case OAuthSource():
            return _ask_endpoint(source, name, egress, seconds)
        case CommandSource():
            return _run_program(source, name, seconds)


def _ask_endpoint(source: OAuthSource, name: SecretName, egress: Egress, seconds: float) -> Issued:
    target = source.target
    headers, body = source.request()
    default = TlsFiles.read(TlsRule(ca_file=source.ca_file), "") if source.ca_file else None
    reach = AddressPolicy if target.scheme == "https" else _PrivateAlone
    client = egress.client(reach(private=source.networks), TlsByOrigin(default=default))
    clock = _Until(seconds)
    try:
        answer = client.send(Outgoing("POST", target, headers, body, MAX_ANSWER_BYTES, _WAITS), clock)
        content_type = next((value for field, value in answer.headers if field == "content-type"), "")
        return read_token_answer(answer.status, content_type, answer.read_all(clock))
    except EgressError as error:
        hint, said = None, error.message
        if error.kind == "private_ip_blocked":
            hint = "host secret set it again with --allow-private CIDR"
            if target.scheme != "https":
                said = f"{target.at.endpoint} is asked over plain http, and at no address that --allow-private names"
        raise TokenUnavailable(f"no token for {name}: {said}", hint=hint) from None
    except TokenAnswerError as error:
        raise TokenUnavailable(f"no token for {name} from {target.at.endpoint}: {error}") from None
    finally:
        client.close()


def _run_program(source: CommandSource, name: SecretName, seconds: float) -> Issued:
    until = time.monotonic() + seconds
    more = {one: value for one in source.environment if (value := environment.optional(one)) is not None}
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator named the program, and no shell reads its arguments
            source.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environment.for_children(), **more},
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        said = os.strerror(error.errno or 0).lower()
        raise TokenUnavailable(f"no token for {name}: {source.program} cannot be run: {said}") from None
    try:
        try:
            assert process.stdout is not None
            output = _read(process.stdout.fileno(), until)
            _await_end(process, until)
        finally:
            _end(process)
        _check_status(process.returncode)
        return read_printed(output, otherwise_s=source.life_s, now=time.time())
    except subprocess.TimeoutExpired:
        raise _no_token(name, source, f"it did not end within {seconds:g} s") from None
    except TokenAnswerError as error:
        raise _no_token(name, source, str(error)) from None


def _no_token(name: SecretName, source: CommandSource, why: str) -> TokenUnavailable:
    hint = "run it yourself to see its words: they may hold secrets, and are not shown"
    return TokenUnavailable(f"no token for {name} from {source.program}: {why}", hint=hint)


def _check_status(status: int) -> None:
    if status:
        raise TokenAnswerError(f"it ended with the status {status}" if status > 0 else "it was killed")


def _read(fd: int, until: float) -> bytes:
    """All that is printed. Raises TokenAnswerError for too much, TimeoutExpired."""
    poll, pieces, size = select.poll(), list[bytes](), 0
    poll.register(fd, select.POLLIN)
    while True:
        left = until - time.monotonic()
        if left <= 0 or not poll.poll(left * 1_000):
            raise subprocess.TimeoutExpired("", 0)
        piece = os.read(fd, MAX_ANSWER_BYTES)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            raise TokenAnswerError(f"it printed more than {MAX_ANSWER_BYTES} bytes")


def _await_end(process: subprocess.Popen[bytes], until: float) -> None:
    """Its number stays its own, and that of its group, until `_end`. Raises TimeoutExpired."""
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= until:
            raise subprocess.TimeoutExpired("", 0)
        time.sleep(_LOOK_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that it started and left, also where it has ended itself. Nobody waits for what cannot be killed."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stdout is not None
    process.stdout.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
