-- One row: the key of the page tokens, in base64url, which all replicas share. The server derives it from the refresh
-- secret when it starts first. It stays the same when the refresh secret is rotated.
create table page_token_key (
    id bigint primary key check (id = 1),
    secret text not null
);

insert into compatible_migrations (version) values (14);
