create index payments_by_order on payments (order_id, created);
