create table products (
    product_id text primary key,
    title text not null,
    currency text not null,
    units bigint not null,
    nanos integer not null,
    available bigint not null check (available >= 0),
    reserved bigint not null check (reserved >= 0),
    sold bigint not null check (sold >= 0)
);
