create table order_versions (
    order_id text not null,
    version bigint not null,
    body text not null,
    primary key (order_id, version)
);
