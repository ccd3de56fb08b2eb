-- Personal access tokens. Each has a session, whose revocation ends it.

-- Whether the session belongs to a personal access token. It then has no refresh token, and is not one of the sessions
-- that are listed and limited.
alter table sessions add column personal_access_token boolean not null default false;

create table personal_access_tokens (
    id uuid primary key,
    user_id uuid not null,
    -- Another session replaces it when the secret or the networks change.
    session_id uuid not null,
    label text not null,
    -- SHA-256 in base64url. A token has 256 random bits, so no salt and no slow hash are needed.
    hash text not null,
    -- Separated by spaces.
    scopes text not null,
    -- Networks in CIDR notation, separated by spaces; empty for everywhere.
    networks text not null,
    created_at bigint not null,
    expires_at bigint not null,
    -- The day of the last use since the Unix epoch, and the address of the client, which is empty if it is unknown.
    last_used_day bigint,
    last_used_address text not null
);

create index personal_access_tokens_by_user on personal_access_tokens (user_id, id);

insert into compatible_migrations (version) values (15);
