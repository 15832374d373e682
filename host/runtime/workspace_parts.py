"""The public types of a Workspace's parts: each with the module that defines it.

    from host.runtime.workspace_parts import Component, Policies

`host.Workspace` is public whole. So are the types of its attributes and of their signatures: here, unless they are in
`host` itself. A test walks the signatures.
"""

from host.core.quantities import Quota as Quota
from host.oci.blobs import Progress as Progress
from host.policy.diff import Difference as Difference
from host.policy.diff import PermissionRequest as PermissionRequest
from host.secrets.value import SecretValue as SecretValue
from host.secrets.value import Unspoken as Unspoken
from host.store.access.api_keys import ApiKey as ApiKey
from host.store.access.api_keys import ApiKeys as ApiKeys
from host.store.access.api_keys import KeyRing as KeyRing
from host.store.access.api_keys import Proof as Proof
from host.store.access.batches import Batches as Batches
from host.store.access.batches import KeptBatch as KeptBatch
from host.store.access.batches import KeptFile as KeptFile
from host.store.access.batches import KeptSizes as KeptSizes
from host.store.access.cancellations import Cancellations as Cancellations
from host.store.access.counters import Counters as Counters
from host.store.access.counters import Slot as Slot
from host.store.access.counters import Tally as Tally
from host.store.access.made_objects import MadeObjects as MadeObjects
from host.store.access.usage import Usage as Usage
from host.store.access.usage import Used as Used
from host.store.audit_log.chain import Checkpoint as Checkpoint
from host.store.audit_log.chain import StoredCheckpoint as StoredCheckpoint
from host.store.audit_log.log import AuditLog as AuditLog
from host.store.audit_log.log import Change as Change
from host.store.components import Component as Component
from host.store.components import Components as Components
from host.store.components import Review as Review
from host.store.connections import Row as Row
from host.store.connections import Rows as Rows
from host.store.connections import StateConnection as StateConnection
from host.store.database import Database as Database
from host.store.policies import Config as Config
from host.store.policies import Granted as Granted
from host.store.policies import Imports as Imports
from host.store.policies import Policies as Policies
from host.store.policies import SecretGrants as SecretGrants
from host.store.settings import Setting as Setting
from host.store.settings import Settings as Settings
from host.store.sql import Column as Column
from host.store.sql import Columns as Columns
from host.store.sql import Delete as Delete
from host.store.sql import Expression as Expression
from host.store.sql import Insert as Insert
from host.store.sql import Phrase as Phrase
from host.store.sql import Select as Select
from host.store.sql import Source as Source
from host.store.sql import StatementText as StatementText
from host.store.sql import StatementWriter as StatementWriter
from host.store.sql import Table as Table
from host.store.sql import Update as Update
from host.store.state_digest import State as State
from host.store.trusted_keys import KeptKey as KeptKey
from host.store.trusted_keys import TrustStore as TrustStore
from host.store.vault.keys import DataKey as DataKey
from host.store.vault.keys import Keys as Keys
from host.store.vault.master import MasterKey as MasterKey
from host.store.vault.secrets import OwnKey as OwnKey
from host.store.vault.secrets import Rotated as Rotated
from host.store.vault.secrets import SigningKeys as SigningKeys
from host.store.vault.secrets import Vault as Vault
from host.store.vault.sources import Found as Found
from host.store.vault.sources import SecretsFile as SecretsFile
from host.store.vault.sources import SecretSources as SecretSources
from host.store.vault.tokens import CommandSource as CommandSource
from host.store.vault.tokens import Issued as Issued
from host.store.vault.tokens import OAuthSource as OAuthSource
from host.store.vault.tokens import Token as Token
from host.trust.keys import PublicKey as PublicKey
from host.trust.keys import SigningKey as SigningKey
from host.trust.verification import Rule as Rule
from host.trust.verification import Trust as Trust
from host.trust.verification import TrustedKey as TrustedKey
from host.trust.verification import VerifiedArtifact as VerifiedArtifact
