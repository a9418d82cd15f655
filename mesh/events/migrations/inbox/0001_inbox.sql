create table inbox (
    consumer text not null,
    event_id text not null,
    seen_at double precision not null,
    primary key (consumer, event_id)
);
create index inbox_seen on inbox (seen_at);
create table inbox_cursor (
    consumer text not null,
    source text not null,
    position bigint not null,
    primary key (consumer, source)
);

create table inbox_held (
    consumer text not null,
    source text not null,
    position bigint not null,
    event_id text not null,
    event_type text not null,
    aggregate text not null,
    aggregate_id text not null,
    sequence bigint not null,
    occurred_at double precision not null,
    traceparent text not null,
    payload bytea not null,
    attempts bigint not null,
    cause text not null,
    due_at double precision,
    dead_at double precision,
    primary key (consumer, source, position)
);
create index inbox_held_line
    on inbox_held (consumer, source, aggregate, aggregate_id, position);
create index inbox_held_due on inbox_held (consumer, source, due_at) where due_at is not null;
