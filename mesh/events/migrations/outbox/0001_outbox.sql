-- The database counts positions itself: "integer primary key autoincrement" is what mesh.store.migrate
-- says for that in each dialect.
create table outbox (
    position integer primary key autoincrement,
    event_id text not null unique,
    event_type text not null,
    aggregate text not null,
    aggregate_id text not null,
    sequence bigint not null,
    occurred_at double precision not null,
    traceparent text not null,
    payload bytea not null
);
create table outbox_sequence (
    aggregate text not null,
    aggregate_id text not null,
    sequence bigint not null,
    primary key (aggregate, aggregate_id)
);
create table outbox_follower (
    consumer text primary key,
    position bigint not null,
    seen_at double precision not null
);
