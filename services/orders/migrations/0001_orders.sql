create table orders (
    order_id text primary key,
    customer_id text not null,
    status text not null,
    created bigint not null,
    version bigint not null,
    body text not null
);
