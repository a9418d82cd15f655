create index notifications_by_customer on notifications (customer_id, position);
