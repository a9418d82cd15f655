create table reviews (
    review_id text primary key,
    sku text not null,
    stars integer not null,
    text text not null,
    author text not null,
    written bigint not null
);
