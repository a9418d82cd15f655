create index orders_by_age on orders (created, order_id);
