create table payments (
    payment_id text primary key,
    order_id text not null,
    currency text not null,
    units bigint not null,
    nanos integer not null,
    method text not null,
    status text not null,
    created bigint not null
);
