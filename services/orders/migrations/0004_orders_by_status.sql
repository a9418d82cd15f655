create index orders_by_status on orders (status, created, order_id);
