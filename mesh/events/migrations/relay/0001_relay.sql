create table relay (
    name text primary key,
    owner text not null,
    token bigint not null,
    free_at double precision not null,
    position bigint not null
);
