"""Every error of the host, in one tree.

HostError                          code                   blame     exit
├── InputError                     invalid_input          caller    2     an argument, an operation or a document
│   ├── PolicyError                invalid_policy         operator  2     a policy says something it cannot mean
│   ├── NotFound                   not_found              caller    2     there is nothing of that name
│   └── TooLarge                   too_large              caller    2     more bytes than are taken
├── Denied                         denied                 operator  3     the run failed, and something was refused
├── RequestRefused                 request_refused        caller    3     the server does not do this for its caller
│   ├── Unauthenticated            unauthenticated        caller    3     no key, or none that counts
│   ├── Forbidden                  forbidden              caller    3     the key may not do this
│   └── LimitExceeded              limit_exceeded         caller    3     the key or the catalyst spent what it may
├── OperationFailed                operation_failed       upstream  1     a stream ended in an error status
├── SandboxError                   sandbox_failed         guest     4     the guest did not end well
│   ├── DeadlineExceeded           deadline_exceeded      guest     4     over the wall-clock limit
│   ├── CpuTimeExceeded            cpu_time_exceeded      guest     4     over the CPU-time limit
│   ├── MemoryExceeded             memory_exceeded        guest     4     needed more memory than it may have
│   ├── OutputTooLarge             output_too_large       guest     4     returned or emitted more than it may
│   ├── HostCallsExceeded          host_calls_exceeded    guest     4     called the host more often than it may
│   ├── GuestException             guest_exception        guest     4     raised an exception (with its traceback)
│   ├── StackExhausted             stack_exhausted        guest     4     recursed too deeply
│   ├── GuestTrap                  guest_trap             guest     4     trapped
│   └── Cancelled                  cancelled              caller    4     the caller took the run back
├── RegistryError                  registry_failed        upstream  1     a registry of others refused or failed
├── ArtifactError                  artifact_unacceptable  guest     5     these bytes are not run
│   ├── NotAComponent              not_a_component        guest     5     not a WebAssembly component binary
│   ├── ContractError              contract_mismatch      guest     5     imports or exports differ from the contract
│   ├── ManifestError              invalid_manifest       guest     5     the embedded manifest is malformed
│   ├── CompileError               compile_failed         guest     5     wasmtime does not accept it
│   ├── CompileLimitExceeded       compile_limit          guest     5     compiling took too much time or memory
│   ├── BuildError                 build_failed           caller    5     componentize-py could not build it
│   ├── VerificationFailed         verification_failed    guest     5     a step of its verification said no
│   └── NotApproved                not_approved           operator  5     other bytes than those that were approved
└── StateError                     host_state             host      6     the host's own state
    ├── CacheError                 cache_unavailable      host      6     the compiled cache cannot be used
    ├── AuditError                 audit_unavailable      host      6     a record could not be written
    │   └── AuditBroken            audit_broken           host      6     the record was changed: it does not verify
    ├── VaultError                 vault_unavailable      host      6     a sealed secret or its key cannot be opened
    └── Busy                       busy                   host      6     no sandbox was free in time

`blame` says whose mistake it is; `exit_status` is what `host` exits with. A test keeps this drawing true.
Errors are never classified by their message, never print and never exit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

Blame = Literal["caller", "guest", "operator", "upstream", "host"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that the host refused a guest. `kind` is an error type of CONTRACT.md (`domain_blocked`, …) or
    `secret_denied`; `subject` what was asked for (a URL without its query, a secret's name); `rule` which rule said
    no; `remedy` the exact thing that would allow it, as an option of `host run` and as a line for a kept policy.
    `grantable` is false where no grant can: the manifest does not ask for it."""

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
    """What `HostError.execution` is known for here: `host.Execution` is the class."""

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
    """What the result in an error is known for here: `host.Result` is the class."""

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
    """The root. `message` says what happened; `hint`, where there is one, is the remedy; `execution` is the record of
    the run that ended in it (decisions, log messages), where there was one."""

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

    def as_dict(self) -> dict[str, Any]:
        """`{"type": code, "message", "blame", "hint"?}`: the shape in which faces show an error."""
        shown: dict[str, Any] = {"type": self.code, "message": self.message, "blame": self.blame}
        if self.hint:
            shown["hint"] = self.hint
        return shown


class InputError(HostError):
    """`field` names what is wrong, as a path such as `params.model`, where one is to blame."""

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
    """Also a ValueError, as it is to whoever makes a Policy in Python."""

    code = "invalid_policy"
    blame = "operator"


class NotFound(InputError):
    code = "not_found"


class TooLarge(InputError):
    code = "too_large"


class Denied(HostError):
    """A run that failed, and in which the host had refused something. `refusals` has each; `result` what the guest
    returned (None when it returned nothing)."""

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
    """`unit` is what was spent: `requests` or `tokens`; `retry_after_s` when to try again."""

    code = "limit_exceeded"

    def __init__(self, message: str, *, unit: str, retry_after_s: float, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.unit = unit
        self.retry_after_s = retry_after_s


class OperationFailed(HostError):
    """A streamed operation that ended in an error status: there was no Result to hand over before. `result` has it."""

    code = "operation_failed"
    blame = "upstream"
    exit_status = 1

    def __init__(self, result: RunResult) -> None:
        error = result.error if isinstance(result.error, dict) else {}
        super().__init__(f"status {result.status}: {error.get('message') or result.error}")
        self.result = result


class SandboxError(HostError):
    code = "sandbox_failed"
    blame: Blame = "guest"
    exit_status = 4


class DeadlineExceeded(SandboxError):
    code = "deadline_exceeded"


class CpuTimeExceeded(SandboxError):
    code = "cpu_time_exceeded"


class MemoryExceeded(SandboxError):
    code = "memory_exceeded"


class OutputTooLarge(SandboxError):
    code = "output_too_large"


class HostCallsExceeded(SandboxError):
    code = "host_calls_exceeded"


class GuestException(SandboxError):
    """The guest raised `exception` (a class name); `traceback` is the guest's own, at most 16 KiB, without secrets."""

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
    """`stderr` is what the guest wrote there, capped."""

    code = "guest_trap"

    def __init__(self, message: str, *, stderr: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.stderr = stderr


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
    """`subject` names the import or export that is to blame."""

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
    """`step` is the number of the step of `host.trust.verification` that said no."""

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
    """`status` is the HTTP status that the registry answered with, where it answered."""

    code = "registry_failed"
    blame = "upstream"
    exit_status = 1

    def __init__(self, message: str, *, status: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class StateError(HostError):
    code = "host_state"
    blame = "host"
    exit_status = 6


class CacheError(StateError):
    code = "cache_unavailable"


class AuditError(StateError):
    code = "audit_unavailable"


class AuditBroken(AuditError):
    """`seq` is the number of the first record that does not verify."""

    code = "audit_broken"

    def __init__(self, message: str, *, seq: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.seq = seq


class VaultError(StateError):
    code = "vault_unavailable"


class Busy(StateError):
    code = "busy"
