"""The public names of `host` but for the stored state: each with the module that defines it.

`host/__init__.py` lists them in `__all__`, shows this module to type checkers, and imports it on first use. Every type
in the signature of a public name is public too: here, in `host.errors`, or in `host.runtime.workspace_parts`. A test
walks the signatures.
"""

from host import errors as errors
from host.component.manifest import Manifest as Manifest
from host.component.manifest import SecretNeed as SecretNeed
from host.component.operations import OperationSpec as OperationSpec
from host.component.operations import Passes as Passes
from host.core.audit import Event as Event
from host.core.audit import LogLine as LogLine
from host.core.audit import Meters as Meters
from host.core.audit import NullSink as NullSink
from host.core.audit import Sink as Sink
from host.core.conversation import Closed as Closed
from host.core.limits import Limits as Limits
from host.core.names import Digest as Digest
from host.core.names import Domain as Domain
from host.core.names import Reference as Reference
from host.core.names import SecretName as SecretName
from host.core.operation import Attachment as Attachment
from host.core.operation import Execution as Execution
from host.core.operation import Operation as Operation
from host.core.operation import Result as Result
from host.core.quantities import Quota as Quota
from host.core.sliding_window import Exceeded as Exceeded
from host.core.sliding_window import Limit as Limit
from host.core.sliding_window import RequestLimiter as RequestLimiter
from host.core.slots import Share as Share
from host.errors import Refusal as Refusal
from host.policy.document import Effective as Effective
from host.policy.document import Policy as Policy
from host.policy.document import RateLimit as RateLimit
from host.policy.document import SecretGrant as SecretGrant
from host.policy.document import SecretRule as SecretRule
from host.policy.document import Terms as Terms
from host.policy.permissions import Declared as Declared
from host.policy.permissions import Grant as Grant
from host.policy.permissions import Requested as Requested
from host.policy.reliability import Breaker as Breaker
from host.policy.reliability import Retries as Retries
from host.policy.reliability import Throttle as Throttle
from host.policy.tls import TlsRule as TlsRule
from host.policy.upstreams import UpstreamPlace as UpstreamPlace
from host.policy.upstreams import UpstreamRule as UpstreamRule
from host.policy.urls import DomainPattern as DomainPattern
from host.policy.urls import Origin as Origin
from host.policy.urls import Target as Target
from host.run import CancelToken as CancelToken
from host.run import Counting as Counting
from host.runtime.catalyst import Catalyst as Catalyst
from host.runtime.connections import AsyncEventConnection as AsyncEventConnection
from host.runtime.connections import EventConnection as EventConnection
from host.runtime.deployment import Secret as Secret
from host.runtime.events import AsyncEventStream as AsyncEventStream
from host.runtime.events import EventStream as EventStream
from host.runtime.host import Host as Host
from host.runtime.loader import Loader as Loader
from host.sandbox import CompileLimits as CompileLimits
from host.secrets.value import SecretValue as SecretValue
from host.trust.artifact import Artifact as Artifact
