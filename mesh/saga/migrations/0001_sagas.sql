create table saga (
    id text primary key,
    definition text not null,
    data text not null,
    state text not null,
    owner text not null,
    token bigint not null,
    free_at double precision not null,
    deadline double precision,
    attempts bigint not null,
    cause text not null,
    started_at double precision not null,
    ended_at double precision
);
create index saga_free on saga (free_at) where state = 'running';
create index saga_owner on saga (owner) where state = 'running';
create index saga_ended on saga (ended_at) where ended_at is not null;
create table saga_journal (
    id text not null,
    number bigint not null,
    step text not null,
    what text not null,
    detail text not null,
    at double precision not null,
    primary key (id, number)
);
