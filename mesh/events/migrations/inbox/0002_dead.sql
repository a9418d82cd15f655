create index inbox_held_dead on inbox_held (consumer, source, position) where dead_at is not null;
