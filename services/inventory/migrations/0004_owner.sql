-- The customer for whose order it is held; empty for those from before, which only staff see.
alter table reservations add column owner text not null default '';
