create index idempotency_expires on idempotency (expires);
