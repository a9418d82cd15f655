create table articles (
    sku text primary key,
    name text not null,
    cents bigint not null check (cents >= 0),
    currency text not null,
    stock bigint not null check (stock >= 0),
    shelf text not null
);
