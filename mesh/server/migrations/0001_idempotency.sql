create table idempotency (
    scope text not null,
    key text not null,
    fingerprint bytea not null,
    state text not null,
    owner text not null,
    leased_until double precision not null,
    expires double precision not null,
    type text not null default '',
    reply bytea,
    status bytea,
    primary key (scope, key)
);
