create table reservations (
    reservation_id text primary key,
    order_id text not null,
    items text not null,
    status text not null,
    created bigint not null
);
