"""The tables, as the newest migration leaves them (a test compares the two).

`subject` is a reference without its version (`catalyst:local.openai`); `version` "" stands for all of them. Times are
Unix time in seconds, digests `sha256:…`, texts in `json` columns canonical JSON.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(column_0_label)s",
    }
)

# A component's bytes: their manifest, and their imports (host.store.components).
artifacts = Table(
    "artifacts",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("manifest", Text, nullable=False),  # json, "" where it has none
    Column("imports", Text, nullable=False),  # json
    Column("added_at", Double, nullable=False),
)

# The bytes themselves, if several machines share the state; otherwise they are files.
blobs = Table(
    "blobs",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

signatures = Table(
    "signatures",
    metadata,
    Column("digest", Text, ForeignKey("artifacts.digest", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("bundle", Text, nullable=False),
)

components = Table(
    "components",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("digest", Text, ForeignKey("artifacts.digest"), nullable=False, index=True),
    Column("source", Text, nullable=False),  # the file or the oci:// reference that it was installed from
    Column("registered_at", Double, nullable=False),
)

# Which bytes may use the grants of a subject.
approvals = Table(
    "approvals",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("digest", Text, ForeignKey("artifacts.digest", ondelete="CASCADE"), primary_key=True),
    Column("approved_at", Double, nullable=False),
)

# The highest version ever approved, even if it was removed: against a downgrade that nobody asked for.
newest = Table(
    "newest",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("version", Text, nullable=False),
)

# Policies, configuration and allowed imports (sections "policy", "config", "import"): a row for each field. And what is
# known of a name beside its grants (sections "build", "order": host.store.provenance).
settings = Table(
    "settings",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("section", Text, primary_key=True),
    Column("field", Text, primary_key=True),
    Column("value", Text, nullable=False),  # json
)

secret_grants = Table(
    "secret_grants",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("secret", Text, primary_key=True),
    Column("domains", Text),  # json; null: where the policy says
    Column("places", Text, nullable=False),  # json
    Column("reveal", Boolean, nullable=False),
    Column("granted_at", Double, nullable=False),
)

# Random data keys, each encrypted with the master key that `master` names.
keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("purpose", Text, nullable=False, index=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("master", Text, nullable=False),
    Column("made_at", Double, nullable=False),
    Column("current", Boolean, nullable=False),
)

secrets = Table(
    "secrets",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("key", Text, ForeignKey("keys.id"), nullable=False),
    Column("revision", Text, nullable=False),  # random, new for each value
    Column("sealed", LargeBinary, nullable=False),
    Column("changed_at", Double, nullable=False),
)

# For each owner, a keyed digest of which secrets there are and in which revision. It shows an old row that was put
# back.
seals = Table(
    "seals",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, ForeignKey("keys.id"), nullable=False),
    Column("mac", LargeBinary, nullable=False),
)

# One row: the state digest, and the number of the last record that changed the state (host.store.state_digest).
state_seal = Table(
    "state_seal",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("key", Text, ForeignKey("keys.id"), nullable=False),
    Column("mac", LargeBinary, nullable=False),
)

trusted_keys = Table(
    "trusted_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace", Text, primary_key=True),
    Column("pem", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("added_at", Double, nullable=False),
    Column("revoked_at", Double),
)

# The rules of namespaces for signatures.
rules = Table(
    "rules",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("require_signature", Boolean, nullable=False),
    Column("threshold", Integer, nullable=False),
)

# Who may use a server, and for what. `hash` is the SHA-256 of a key's text (host.store.access.api_keys).
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("scopes", Text, nullable=False),  # json: names of scopes, and "operation:GLOB"
    Column("hash", LargeBinary, nullable=False),
    Column("previous_hash", LargeBinary),  # of the text before the last rotation
    Column("previous_until", Double),
    Column("rate_limit", Text),  # these three as host.core.quantities writes them
    Column("request_budget", Text),
    Column("token_budget", Text),
    Column("ip_allowlist", Text, nullable=False),  # json, as the next two; empty: any
    Column("models", Text, nullable=False),
    Column("catalysts", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("rotated_at", Double),
)

# Usage by day (UTC, `2026-11-20`), key ("": none) and catalyst (a reference with its version).
usage = Table(
    "usage",
    metadata,
    Column("day", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("catalyst", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
)

# Counts of limits, by the number of their window of time (host.service.limits).
counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("window", BigInteger, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
    Column("seq", BigInteger, nullable=False, index=True),  # of the seal that it was last written with
)

# One row: the MAC over all counters (host.store.access.counters).
counter_seal = Table(
    "counter_seal",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("key", Text, ForeignKey("keys.id"), nullable=False),
    Column("mac", LargeBinary, nullable=False),
    Column("swept_at", Double, nullable=False),
)

# Requests to end a run, for the process that runs it.
cancellations = Table(
    "cancellations",
    metadata,
    Column("run", Text, primary_key=True),
    Column("asked_at", Double, nullable=False),
)

# Where an object of an upstream is, by a digest of its id and of the API key that made it.
made_objects = Table(
    "made_objects",
    metadata,
    Column("name", Text, primary_key=True),
    Column("key", Text, nullable=False),  # of the API, "": none; and the catalyst
    Column("place", Text, nullable=False),  # a reference without a version
    Column("made_at", Double, nullable=False),
    Index("ix_made_objects_key_made_at", "key", "made_at"),
)

# Batches that a server runs itself (host.store.access.batches). `owner` is the id of an API key, "": none.
batch_files = Table(
    "batch_files",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("made_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("key", Text, ForeignKey("keys.id"), nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # json
    Index("ix_batch_files_owner_made_at", "owner", "made_at"),
)

# The contents of those files, in their order: of results, a line each, by its number.
batch_pieces = Table(
    "batch_pieces",
    metadata,
    Column("file", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text, ForeignKey("keys.id"), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("ended", Boolean, nullable=False, index=True),
    Column("made_at", Double, nullable=False),
    Column("kept_until", Double, nullable=False),
    Column("key", Text, ForeignKey("keys.id"), nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # json
    Index("ix_batches_owner_made_at", "owner", "made_at"),
)

# The audit log: each row's mac covers the row and the mac of the row before it (host.store.audit_log.log).
audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("run", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("decision", Text),
    Column("rule", Text, nullable=False),
    Column("detail", Text, nullable=False),  # json
    Column("key", Text, ForeignKey("keys.id"), nullable=False),
    Column("mac", LargeBinary, nullable=False),
    Index("ix_audit_run", "run"),
    Index("ix_audit_kind_seq", "kind", "seq"),
)
