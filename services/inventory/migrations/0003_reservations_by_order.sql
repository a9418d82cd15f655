create index reservations_by_order on reservations (order_id, created);
