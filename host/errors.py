"""Every error of the host, in one tree.

HostError                          code                   blame     exit
├── InputError                     invalid_input          caller    2     an argument, an operation or a document
│   ├── PolicyError                invalid_policy         operator  2     a policy is malformed
│   ├── NotFound                   not_found              caller    2     nothing has that name
│   ├── TooLarge                   too_large              caller    2     more bytes than the limit
│   └── UnsupportedMedia           unsupported_media      caller    2     a coding that the host does not read
├── Denied                         denied                 operator  3     the run failed, with something refused
├── RequestRefused                 request_refused        caller    3     the server refuses this caller's request
│   ├── Unauthenticated            unauthenticated        caller    3     no key, or no valid one
│   ├── Forbidden                  forbidden              caller    3     the key lacks the permission
│   └── LimitExceeded              limit_exceeded         caller    3     the key or the catalyst is over its limit
├── OperationFailed                operation_failed       upstream  1     a stream ended in an error status
├── CircuitOpen                    circuit_open           upstream  1     an upstream that fails is not asked
├── SandboxError                   sandbox_failed         guest     4     the guest did not return
│   ├── DeadlineExceeded           deadline_exceeded      guest     4     over the wall-clock limit
│   │   ├── UpstreamTimeout        upstream_timeout       upstream  4     an upstream took too long
│   │   └── CallerTimeout          caller_timeout         caller    4     the caller took too long to read
│   ├── CpuTimeExceeded            cpu_time_exceeded      guest     4     over the CPU-time limit
│   ├── MemoryExceeded             memory_exceeded        guest     4     over the memory limit
│   ├── OutputTooLarge             output_too_large       guest     4     over the output limit
│   ├── OutputInvalid              output_invalid         guest     4     put out what JSON has not, as NaN
│   ├── HostCallsExceeded          host_calls_exceeded    guest     4     over the limit of calls to the host
│   ├── GuestException             guest_exception        guest     4     raised an exception (traceback included)
│   ├── StackExhausted             stack_exhausted        guest     4     recursed too deeply
│   ├── GuestTrap                  guest_trap             guest     4     trapped
│   └── Cancelled                  cancelled              caller    4     the caller cancelled the run
├── RegistryError                  registry_failed        upstream  1     an OCI registry refused or failed
├── NodeLost                       node_lost              host      6     the node that had the line was lost, twice
├── TokenUnavailable               token_unavailable      upstream  1     no token that is valid can be had
├── ArtifactError                  artifact_unacceptable  guest     5     the host does not run these bytes
│   ├── NotAComponent              not_a_component        guest     5     not a WebAssembly component binary
│   ├── ContractError              contract_mismatch      guest     5     imports or exports differ from the contract
│   ├── ManifestError              invalid_manifest       guest     5     the embedded manifest is malformed
│   ├── CompileError               compile_failed         guest     5     wasmtime rejects it
│   ├── CompileLimitExceeded       compile_limit          guest     5     compiling took too much time or memory
│   ├── BuildError                 build_failed           caller    5     componentize-py could not build it
│   ├── VerificationFailed         verification_failed    guest     5     a step of its verification failed
│   └── NotApproved                not_approved           operator  5     the operator approved other bytes
└── StateError                     host_state             host      6     the host's own state
    ├── CacheError                 cache_unavailable      host      6     the compiled cache cannot be used
    ├── AuditError                 audit_unavailable      host      6     an event could not be recorded
    │   └── AuditBroken            audit_broken           host      6     the audit log was changed: it does not verify
    ├── VaultError                 vault_unavailable      host      6     a stored secret or its key cannot be decrypted
    └── Busy                       busy                   host      6     no sandbox was free in time
        ├── Overloaded             overloaded             host      6     a caller has too many requests under way
        └── ShuttingDown           shutting_down          host      6     the server ends, and takes no more requests

`blame` names the party at fault; `exit_status` is the exit status of the program. A test compares this drawing with the
classes. Code never classifies an error by its message. Errors never print and never exit. They survive pickling and
copying with all their attributes.
"""

from __future__ import annotations

import copyreg
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from reprlib import repr as shortened
from typing import Any, Final, Literal, Protocol

Blame = Literal["caller", "guest", "operator", "upstream", "host"]

_NOT_IN_REPR: Final = ("message", "traceback", "stderr")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that the host refused a guest.

    `kind` is an error type of the contract (`domain_blocked`, …) or `secret_denied`. `subject` is the URL without its
    query, or the secret's name. `rule` names the rule that refused it. `remedy` is the exact change that would allow
    it: an option of `host run`, and a command or line for the stored policy. `grantable` is false where no grant can
    allow it, because the manifest does not request it.
    """

    kind: str
    subject: str
    rule: str
    remedy: str = ""
    grantable: bool = True

    def __str__(self) -> str:
        said = f"{self.subject}: {self.rule}"
        return f"{said} ({self.remedy})" if self.remedy else said

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class RunRecord(Protocol):
    """The record of a run, as errors know it. `host.Execution` is the class; this module imports nothing of the
    host."""

    @property
    def id(self) -> str: ...
    @property
    def duration_s(self) -> float: ...
    @property
    def refusals(self) -> tuple[Refusal, ...]: ...
    @property
    def decisions(self) -> tuple[Any, ...]: ...
    @property
    def logs(self) -> tuple[Any, ...]: ...
    @property
    def meters(self) -> Any: ...
    def as_dict(self) -> dict[str, Any]: ...


class RunResult(Protocol):
    """The result of a run, as errors know it. `host.Result` is the class."""

    @property
    def status(self) -> int: ...
    @property
    def data(self) -> Any: ...
    @property
    def error(self) -> Any: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def execution(self) -> RunRecord: ...
    def as_dict(self) -> dict[str, Any]: ...


class HostError(Exception):
    """The root of the tree. `message` says what happened. `hint` is the remedy, or None. `execution` is the record of
    the run that ended in this error (decisions, log messages), or None."""

    code: str = "host_error"
    blame: Blame = "host"
    exit_status: int = 6

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.execution: RunRecord | None = None

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __repr__(self) -> str:
        """The class, the message and the short attributes. Never a traceback, a result or a run's record."""
        shown = (
            f"{name}={shortened(value)}"
            for name, value in vars(self).items()
            if name not in _NOT_IN_REPR and isinstance(value, str | int | float)
        )
        return f"{type(self).__name__}({', '.join((repr(self.message), *shown))})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles and copies any subclass, whatever arguments its `__init__` takes: without calling it again."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self).copy()  # type: ignore[attr-defined]

    def as_dict(self) -> dict[str, Any]:
        """`{"type": code, "message", "blame", "hint"?}`: the form in which every interface shows an error."""
        shown: dict[str, Any] = {"type": self.code, "message": self.message, "blame": self.blame}
        if self.hint:
            shown["hint"] = self.hint
        return shown


class InputError(HostError):
    """`field` is the path of the wrong field, such as `params.model`, or None."""

    code = "invalid_input"
    blame: Blame = "caller"
    exit_status = 2

    def __init__(self, message: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field

    def as_dict(self) -> dict[str, Any]:
        shown = super().as_dict()
        if self.field:
            shown["param"] = self.field
        return shown


class PolicyError(InputError, ValueError):
    """Also a ValueError, as Python code that makes a Policy expects."""

    code = "invalid_policy"
    blame = "operator"


class NotFound(InputError):
    code = "not_found"


class TooLarge(InputError):
    code = "too_large"


class UnsupportedMedia(InputError):
    code = "unsupported_media"


class Denied(HostError):
    """The run failed after the host had refused it something. `refusals` lists each refusal. `result` is the guest's
    result, or None where it returned none."""

    code = "denied"
    blame = "operator"
    exit_status = 3

    def __init__(self, refusals: Sequence[Refusal], result: RunResult | None = None) -> None:
        super().__init__("\n".join(f"denied: {refusal}" for refusal in refusals))
        self.refusals = tuple(refusals)
        self.result = result

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "refusals": [refusal.as_dict() for refusal in self.refusals]}


class RequestRefused(HostError):
    code = "request_refused"
    blame: Blame = "caller"
    exit_status = 3


class Unauthenticated(RequestRefused):
    code = "unauthenticated"


class Forbidden(RequestRefused):
    code = "forbidden"


class LimitExceeded(RequestRefused):
    """`unit` is the unit of the limit: `requests` or `tokens`, or of what is under way, `concurrency` or `bytes`.
    `retry_after_s` is the time to wait, in seconds."""

    code = "limit_exceeded"

    def __init__(self, message: str, *, unit: str, retry_after_s: float, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.unit = unit
        self.retry_after_s = retry_after_s


class OperationFailed(HostError):
    """A streamed operation ended in an error status. `result` is its Result."""

    code = "operation_failed"
    blame = "upstream"
    exit_status = 1

    def __init__(self, result: RunResult) -> None:
        error = result.error if isinstance(result.error, dict) else {}
        super().__init__(f"status {result.status}: {error.get('message') or result.error}")
        self.result = result


class CircuitOpen(HostError):
    """The run failed because its upstream has failed too often, and is not asked now. `retry_after_s` is the time until
    a request is let through."""

    code = "circuit_open"
    blame = "upstream"
    exit_status = 1

    def __init__(self, message: str, *, retry_after_s: float, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "retry_after_s": self.retry_after_s}


class SandboxError(HostError):
    code = "sandbox_failed"
    blame: Blame = "guest"
    exit_status = 4


class DeadlineExceeded(SandboxError):
    code = "deadline_exceeded"


class UpstreamTimeout(DeadlineExceeded):
    """`limit` names the limit of the policy that was over (`idle_timeout`), `waited_s` is its time in seconds."""

    code = "upstream_timeout"
    blame = "upstream"

    def __init__(self, message: str, *, limit: str = "timeout", waited_s: float = 0.0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.limit = limit
        self.waited_s = waited_s


class CallerTimeout(DeadlineExceeded):
    code = "caller_timeout"
    blame = "caller"


class CpuTimeExceeded(SandboxError):
    code = "cpu_time_exceeded"


class MemoryExceeded(SandboxError):
    code = "memory_exceeded"


class OutputTooLarge(SandboxError):
    code = "output_too_large"


class OutputInvalid(SandboxError):
    code = "output_invalid"


class HostCallsExceeded(SandboxError):
    code = "host_calls_exceeded"


class GuestException(SandboxError):
    """The guest raised an exception. `exception` is its class name; `traceback` the guest's own, at most 16 KiB,
    without secrets."""

    code = "guest_exception"

    def __init__(self, message: str, *, exception: str, traceback: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exception = exception
        self.traceback = traceback

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "exception": self.exception, "traceback": self.traceback}


class StackExhausted(SandboxError):
    code = "stack_exhausted"


class GuestTrap(SandboxError):
    """`stderr` is the guest's standard error, capped."""

    code = "guest_trap"

    def __init__(self, message: str, *, stderr: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.stderr = stderr

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), **({"stderr": self.stderr} if self.stderr else {})}


class Cancelled(SandboxError):
    code = "cancelled"
    blame = "caller"


class ArtifactError(HostError):
    code = "artifact_unacceptable"
    blame: Blame = "guest"
    exit_status = 5


class NotAComponent(ArtifactError):
    code = "not_a_component"


class ContractError(ArtifactError):
    """`subject` names the import or export at fault."""

    code = "contract_mismatch"

    def __init__(self, message: str, *, subject: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.subject = subject


class ManifestError(ArtifactError):
    code = "invalid_manifest"


class CompileError(ArtifactError):
    code = "compile_failed"


class CompileLimitExceeded(ArtifactError):
    code = "compile_limit"


class BuildError(ArtifactError):
    code = "build_failed"
    blame = "caller"


class VerificationFailed(ArtifactError):
    """`step` is the number of the step of `host.trust.verification` that failed."""

    code = "verification_failed"

    def __init__(self, message: str, *, step: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.step = step

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "step": self.step}


class NotApproved(ArtifactError):
    code = "not_approved"
    blame = "operator"


class RegistryError(HostError):
    """`status` is the HTTP status of the registry's answer, or None where there was none."""

    code = "registry_failed"
    blame = "upstream"
    exit_status = 1

    def __init__(self, message: str, *, status: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class NodeLost(HostError):
    code = "node_lost"


class TokenUnavailable(HostError):
    """A secret's source gives no token, and the last one is no longer valid."""

    code = "token_unavailable"
    blame = "upstream"
    exit_status = 1


class StateError(HostError):
    code = "host_state"
    blame = "host"
    exit_status = 6


class CacheError(StateError):
    code = "cache_unavailable"


class AuditError(StateError):
    code = "audit_unavailable"


class AuditBroken(AuditError):
    """`seq` is the number of the first event that does not verify."""

    code = "audit_broken"

    def __init__(self, message: str, *, seq: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.seq = seq


class VaultError(StateError):
    code = "vault_unavailable"


class Busy(StateError):
    code = "busy"


class Overloaded(Busy):
    """A caller has as many requests under way as there is room for. `unit` is what there are too many of."""

    code = "overloaded"
    unit = "concurrency"


class ShuttingDown(Busy):
    code = "shutting_down"
