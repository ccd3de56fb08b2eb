-- Service accounts: the accounts of services that call with access tokens of their own, or on behalf of users. Each access
-- token has a session of its own, in `sessions`.

create table service_accounts (
    -- The client id, and the user of the sessions.
    id uuid primary key,
    label text not null,
    -- What the access tokens can permit, separated by spaces.
    scopes text not null,
    -- SHA-256 of the secret in base64url; null if a certificate is used instead. A secret has 256 random bits, so no salt
    -- and no slow hash are needed.
    hash text,
    -- The hash of the secret before, and until when that is valid as well.
    previous_hash text,
    previous_expires_at bigint,
    -- A subject alternative name of the certificate: a URI, or a DNS name in lower case.
    san text unique,
    created_at bigint not null,
    -- The day of the last authentication since the Unix epoch, and the address of the client, which is empty if it is
    -- unknown.
    last_used_day bigint,
    last_used_address text not null
);

insert into compatible_migrations (version) values (18);
