-- The first tables.

CREATE TABLE artifacts (
    digest TEXT NOT NULL,
    size BIGINT NOT NULL,
    manifest TEXT NOT NULL,
    imports TEXT NOT NULL,
    added_at DOUBLE NOT NULL,
    CONSTRAINT pk_artifacts PRIMARY KEY (digest)
);

CREATE TABLE blobs (
    digest TEXT NOT NULL,
    content BLOB NOT NULL,
    CONSTRAINT pk_blobs PRIMARY KEY (digest)
);

CREATE TABLE keys (
    id TEXT NOT NULL,
    purpose TEXT NOT NULL,
    sealed BLOB NOT NULL,
    master TEXT NOT NULL,
    made_at DOUBLE NOT NULL,
    current BOOLEAN NOT NULL,
    CONSTRAINT pk_keys PRIMARY KEY (id)
);

CREATE INDEX ix_keys_purpose ON keys (purpose);

CREATE TABLE newest (
    subject TEXT NOT NULL,
    version TEXT NOT NULL,
    CONSTRAINT pk_newest PRIMARY KEY (subject)
);

CREATE TABLE rules (
    namespace TEXT NOT NULL,
    require_signature BOOLEAN NOT NULL,
    threshold INTEGER NOT NULL,
    CONSTRAINT pk_rules PRIMARY KEY (namespace)
);

CREATE TABLE secret_grants (
    subject TEXT NOT NULL,
    version TEXT NOT NULL,
    secret TEXT NOT NULL,
    domains TEXT,
    places TEXT NOT NULL,
    reveal BOOLEAN NOT NULL,
    granted_at DOUBLE NOT NULL,
    CONSTRAINT pk_secret_grants PRIMARY KEY (subject, version, secret)
);

CREATE TABLE settings (
    subject TEXT NOT NULL,
    version TEXT NOT NULL,
    section TEXT NOT NULL,
    field TEXT NOT NULL,
    value TEXT NOT NULL,
    CONSTRAINT pk_settings PRIMARY KEY (subject, version, section, field)
);

CREATE TABLE trusted_keys (
    id TEXT NOT NULL,
    namespace TEXT NOT NULL,
    pem TEXT NOT NULL,
    comment TEXT NOT NULL,
    added_at DOUBLE NOT NULL,
    revoked_at DOUBLE,
    CONSTRAINT pk_trusted_keys PRIMARY KEY (id, namespace)
);

CREATE TABLE approvals (
    subject TEXT NOT NULL,
    digest TEXT NOT NULL,
    approved_at DOUBLE NOT NULL,
    CONSTRAINT pk_approvals PRIMARY KEY (subject, digest),
    CONSTRAINT fk_approvals_digest FOREIGN KEY(digest) REFERENCES artifacts (digest) ON DELETE CASCADE
);

CREATE TABLE audit (
    seq INTEGER NOT NULL,
    at DOUBLE NOT NULL,
    run TEXT NOT NULL,
    kind TEXT NOT NULL,
    decision TEXT,
    rule TEXT NOT NULL,
    detail TEXT NOT NULL,
    "key" TEXT NOT NULL,
    mac BLOB NOT NULL,
    CONSTRAINT pk_audit PRIMARY KEY (seq),
    CONSTRAINT fk_audit_key FOREIGN KEY("key") REFERENCES keys (id)
);

CREATE INDEX ix_audit_kind_seq ON audit (kind, seq);

CREATE INDEX ix_audit_run ON audit (run);

CREATE TABLE components (
    subject TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    source TEXT NOT NULL,
    registered_at DOUBLE NOT NULL,
    CONSTRAINT pk_components PRIMARY KEY (subject, version),
    CONSTRAINT fk_components_digest FOREIGN KEY(digest) REFERENCES artifacts (digest)
);

CREATE INDEX ix_components_digest ON components (digest);

CREATE TABLE seals (
    owner TEXT NOT NULL,
    "key" TEXT NOT NULL,
    mac BLOB NOT NULL,
    CONSTRAINT pk_seals PRIMARY KEY (owner),
    CONSTRAINT fk_seals_key FOREIGN KEY("key") REFERENCES keys (id)
);

CREATE TABLE state_seal (
    seq INTEGER NOT NULL,
    "key" TEXT NOT NULL,
    mac BLOB NOT NULL,
    CONSTRAINT pk_state_seal PRIMARY KEY (seq),
    CONSTRAINT fk_state_seal_key FOREIGN KEY("key") REFERENCES keys (id)
);

CREATE TABLE secrets (
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    "key" TEXT NOT NULL,
    revision TEXT NOT NULL,
    sealed BLOB NOT NULL,
    changed_at DOUBLE NOT NULL,
    CONSTRAINT pk_secrets PRIMARY KEY (owner, name),
    CONSTRAINT fk_secrets_key FOREIGN KEY("key") REFERENCES keys (id)
);

CREATE TABLE signatures (
    digest TEXT NOT NULL,
    position INTEGER NOT NULL,
    bundle TEXT NOT NULL,
    CONSTRAINT pk_signatures PRIMARY KEY (digest, position),
    CONSTRAINT fk_signatures_digest FOREIGN KEY(digest) REFERENCES artifacts (digest) ON DELETE CASCADE
);
