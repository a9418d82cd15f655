-- Which holds are the oldest: they end by themselves.
create index reservations_held on reservations (created) where status = 'HELD';
