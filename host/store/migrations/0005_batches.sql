-- Batches that a server runs itself, with their files.

CREATE TABLE batch_files (
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    made_at DOUBLE NOT NULL,
    expires_at DOUBLE NOT NULL,
    "key" TEXT NOT NULL,
    sealed BLOB NOT NULL,
    CONSTRAINT pk_batch_files PRIMARY KEY (id),
    CONSTRAINT fk_batch_files_key FOREIGN KEY("key") REFERENCES keys (id)
);

CREATE INDEX ix_batch_files_owner_made_at ON batch_files (owner, made_at);

CREATE TABLE batch_pieces (
    file TEXT NOT NULL,
    position BIGINT NOT NULL,
    "key" TEXT NOT NULL,
    sealed BLOB NOT NULL,
    CONSTRAINT pk_batch_pieces PRIMARY KEY (file, position),
    CONSTRAINT fk_batch_pieces_key FOREIGN KEY("key") REFERENCES keys (id)
);

CREATE TABLE batches (
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    ended BOOLEAN NOT NULL,
    made_at DOUBLE NOT NULL,
    kept_until DOUBLE NOT NULL,
    "key" TEXT NOT NULL,
    sealed BLOB NOT NULL,
    CONSTRAINT pk_batches PRIMARY KEY (id),
    CONSTRAINT fk_batches_key FOREIGN KEY("key") REFERENCES keys (id)
);

CREATE INDEX ix_batches_owner_made_at ON batches (owner, made_at);

CREATE INDEX ix_batches_ended ON batches (ended);
