-- Access tokens that were issued before this time are refused. Set when a backup was restored, because the database does
-- not know which sessions of the lost history were revoked.
alter table feed add column issued_before bigint;

insert into compatible_migrations (version) values (12);
