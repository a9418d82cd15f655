create index orders_by_customer on orders (customer_id, created, order_id);
