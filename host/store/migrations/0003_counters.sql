-- Counters are sealed together. Those of before were not: their limits begin anew.

DROP TABLE counters;

CREATE TABLE counters (
    name TEXT NOT NULL,
    window BIGINT NOT NULL,
    count BIGINT NOT NULL,
    expires_at DOUBLE NOT NULL,
    seq BIGINT NOT NULL,
    CONSTRAINT pk_counters PRIMARY KEY (name, window)
);

CREATE INDEX ix_counters_expires_at ON counters (expires_at);

CREATE INDEX ix_counters_seq ON counters (seq);

CREATE TABLE counter_seal (
    seq INTEGER NOT NULL,
    "key" TEXT NOT NULL,
    mac BLOB NOT NULL,
    swept_at DOUBLE NOT NULL,
    CONSTRAINT pk_counter_seal PRIMARY KEY (seq),
    CONSTRAINT fk_counter_seal_key FOREIGN KEY("key") REFERENCES keys (id)
);
