-- Service tokens can expire. The last use of tokens and certificates is stored, as the day since the Unix epoch.
alter table service_tokens add column expires_at bigint;
alter table service_tokens add column last_used_day bigint;
alter table service_certificates add column last_used_day bigint;

insert into compatible_migrations (version) values (21);
