-- Those that an operator has to see to are found among any number of others.
create index saga_parked on saga (started_at, id) where state = 'parked';
