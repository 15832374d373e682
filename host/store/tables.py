"""The tables, as the newest migration leaves them (a test compares the two).

`subject` is a reference without its version (`catalyst:local.openai`); `version` "" stands for all of them. Times are
Unix time in seconds, digests `sha256:…`, texts with `json` canonical JSON. Keys, indexes and what may be missing are
in `migrations/`.
"""

from __future__ import annotations

from typing import Final

from host.store.sql import BYTES, INTEGER, REAL, TEXT, TRUTH, Table

# A component's bytes: their manifest, and their imports (host.store.components).
artifacts = Table(
    "artifacts",
    digest=TEXT,
    size=INTEGER,
    manifest=TEXT,  # json, "" where it has none
    imports=TEXT,  # json
    added_at=REAL,
)

# The bytes themselves, if several machines share the state; otherwise they are files.
blobs = Table(
    "blobs",
    digest=TEXT,
    content=BYTES,
)

signatures = Table(
    "signatures",
    digest=TEXT,
    position=INTEGER,
    bundle=TEXT,
)

components = Table(
    "components",
    subject=TEXT,
    version=TEXT,
    digest=TEXT,
    source=TEXT,  # the file or the oci:// reference that it was installed from
    registered_at=REAL,
)

# Which bytes may use the grants of a subject.
approvals = Table(
    "approvals",
    subject=TEXT,
    digest=TEXT,
    approved_at=REAL,
)

# The highest version ever approved, even if it was removed: against a downgrade that nobody asked for.
newest = Table(
    "newest",
    subject=TEXT,
    version=TEXT,
)

# Policies, configuration and allowed imports (sections "policy", "config", "import"): a row for each field. And what is
# known of a name beside its grants (sections "build", "order": host.store.provenance).
settings = Table(
    "settings",
    subject=TEXT,
    version=TEXT,
    section=TEXT,
    field=TEXT,
    value=TEXT,  # json
)

secret_grants = Table(
    "secret_grants",
    subject=TEXT,
    version=TEXT,
    secret=TEXT,
    domains=TEXT,  # json; null: where the policy says
    places=TEXT,  # json
    reveal=TRUTH,
    granted_at=REAL,
)

# Random data keys, each encrypted with the master key that `master` names.
keys = Table(
    "keys",
    id=TEXT,
    purpose=TEXT,
    sealed=BYTES,
    master=TEXT,
    made_at=REAL,
    current=TRUTH,
)

secrets = Table(
    "secrets",
    owner=TEXT,
    name=TEXT,
    key=TEXT,
    revision=TEXT,  # random, new for each value
    sealed=BYTES,
    changed_at=REAL,
)

# For each owner, a keyed digest of which secrets there are and in which revision. It shows an old row that was put
# back.
seals = Table(
    "seals",
    owner=TEXT,
    key=TEXT,
    mac=BYTES,
)

# One row: the state digest, and the number of the last record that changed the state (host.store.state_digest).
state_seal = Table(
    "state_seal",
    seq=INTEGER,
    key=TEXT,
    mac=BYTES,
)

trusted_keys = Table(
    "trusted_keys",
    id=TEXT,
    namespace=TEXT,
    pem=TEXT,
    comment=TEXT,
    added_at=REAL,
    revoked_at=REAL,
)

# The rules of namespaces for signatures.
rules = Table(
    "rules",
    namespace=TEXT,
    require_signature=TRUTH,
    threshold=INTEGER,
)

# Who may use a server, and for what. `hash` is the SHA-256 of a key's text (host.store.access.api_keys).
api_keys = Table(
    "api_keys",
    id=TEXT,
    name=TEXT,
    type=TEXT,
    scopes=TEXT,  # json: names of scopes, and "operation:GLOB"
    hash=BYTES,
    previous_hash=BYTES,  # of the text before the last rotation
    previous_until=REAL,
    rate_limit=TEXT,  # these three as host.core.quantities writes them
    request_budget=TEXT,
    token_budget=TEXT,
    ip_allowlist=TEXT,  # json, as the next two; empty: any
    models=TEXT,
    catalysts=TEXT,
    created_at=REAL,
    expires_at=REAL,
    revoked_at=REAL,
    rotated_at=REAL,
)

# Usage by day (UTC, `2026-11-20`), key ("": none) and catalyst (a reference with its version).
usage = Table(
    "usage",
    day=TEXT,
    key=TEXT,
    catalyst=TEXT,
    requests=INTEGER,
    failed=INTEGER,
    input_tokens=INTEGER,
    output_tokens=INTEGER,
)

# Counts of limits, by the number of their window of time (host.service.limits).
counters = Table(
    "counters",
    name=TEXT,
    window=INTEGER,
    count=INTEGER,
    expires_at=REAL,
    seq=INTEGER,  # of the seal that it was last written with
)

# One row: the MAC over all counters (host.store.access.counters).
counter_seal = Table(
    "counter_seal",
    seq=INTEGER,
    key=TEXT,
    mac=BYTES,
    swept_at=REAL,
)

# Requests to end a run, for the process that runs it.
cancellations = Table(
    "cancellations",
    run=TEXT,
    asked_at=REAL,
)

# Where an object of an upstream is, by a digest of its id and of the API key that made it.
made_objects = Table(
    "made_objects",
    name=TEXT,
    key=TEXT,  # of the API, "": none; and the catalyst
    place=TEXT,  # a reference without a version
    made_at=REAL,
)

# Batches that a server runs itself (host.store.access.batches). `owner` is the id of an API key, "": none.
batch_files = Table(
    "batch_files",
    id=TEXT,
    owner=TEXT,
    bytes=INTEGER,
    made_at=REAL,
    expires_at=REAL,
    key=TEXT,
    sealed=BYTES,  # json
)

# The contents of those files, in their order: of results, a line each, by its number.
batch_pieces = Table(
    "batch_pieces",
    file=TEXT,
    position=INTEGER,
    key=TEXT,
    sealed=BYTES,
)

batches = Table(
    "batches",
    id=TEXT,
    owner=TEXT,
    ended=TRUTH,
    made_at=REAL,
    kept_until=REAL,
    key=TEXT,
    sealed=BYTES,  # json
)

# The audit log: each row's mac covers the row and the mac of the row before it (host.store.audit_log.log).
audit = Table(
    "audit",
    seq=INTEGER,
    at=REAL,
    run=TEXT,
    kind=TEXT,
    decision=TEXT,
    rule=TEXT,
    detail=TEXT,  # json
    key=TEXT,
    mac=BYTES,
)

ALL: Final = (
    artifacts,
    blobs,
    signatures,
    components,
    approvals,
    newest,
    settings,
    secret_grants,
    keys,
    secrets,
    seals,
    state_seal,
    trusted_keys,
    rules,
    api_keys,
    usage,
    counters,
    counter_seal,
    cancellations,
    made_objects,
    batch_files,
    batch_pieces,
    batches,
    audit,
)
