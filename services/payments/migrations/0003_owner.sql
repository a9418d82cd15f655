-- The customer for whose order it was charged; empty for those from before, which only staff see.
alter table payments add column owner text not null default '';
