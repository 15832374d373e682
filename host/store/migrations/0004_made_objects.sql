-- Where objects of upstreams are, for requests that name them.

CREATE TABLE made_objects (
    name TEXT NOT NULL,
    "key" TEXT NOT NULL,
    place TEXT NOT NULL,
    made_at DOUBLE NOT NULL,
    CONSTRAINT pk_made_objects PRIMARY KEY (name)
);

CREATE INDEX ix_made_objects_key_made_at ON made_objects ("key", made_at);
