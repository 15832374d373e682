-- What a server keeps: keys, usage, counters, cancellations.

CREATE TABLE api_keys (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    scopes TEXT NOT NULL,
    hash BLOB NOT NULL,
    previous_hash BLOB,
    previous_until DOUBLE,
    rate_limit TEXT,
    request_budget TEXT,
    token_budget TEXT,
    ip_allowlist TEXT NOT NULL,
    models TEXT NOT NULL,
    catalysts TEXT NOT NULL,
    created_at DOUBLE NOT NULL,
    expires_at DOUBLE,
    revoked_at DOUBLE,
    rotated_at DOUBLE,
    CONSTRAINT pk_api_keys PRIMARY KEY (id)
);

CREATE TABLE usage (
    day TEXT NOT NULL,
    "key" TEXT NOT NULL,
    catalyst TEXT NOT NULL,
    requests BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    CONSTRAINT pk_usage PRIMARY KEY (day, "key", catalyst)
);

CREATE TABLE counters (
    name TEXT NOT NULL,
    window BIGINT NOT NULL,
    count BIGINT NOT NULL,
    expires_at DOUBLE NOT NULL,
    CONSTRAINT pk_counters PRIMARY KEY (name, window)
);

CREATE INDEX ix_counters_expires_at ON counters (expires_at);

CREATE TABLE cancellations (
    run TEXT NOT NULL,
    asked_at DOUBLE NOT NULL,
    CONSTRAINT pk_cancellations PRIMARY KEY (run)
);
