create table notifications (
    position bigint primary key,
    notification_id text not null unique,
    customer_id text not null,
    order_id text not null,
    kind text not null,
    text text not null,
    created bigint not null
);
