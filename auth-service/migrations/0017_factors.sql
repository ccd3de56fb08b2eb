-- How and when the user of a session has proved their identity.

-- The names of RFC 8176, separated by spaces.
alter table sessions add column amr text not null default 'pwd';

-- When the user last proved a factor. Null for the sessions of programs that do not know this column: then at the login.
alter table sessions add column authenticated_at bigint;

-- The authenticator apps of users (RFC 6238).
create table factors (
    id uuid primary key,
    user_id uuid not null,
    label text not null,
    -- The shared secret, encrypted with a key that is derived from a refresh secret, and the id of that refresh secret.
    sealed_secret text not null,
    sealed_with text not null,
    created_at bigint not null,
    -- Null until the user has entered a code. Only then is the factor required.
    confirmed_at bigint,
    -- The time step of the last accepted code. A code of this step, or of an earlier one, is not accepted.
    last_step bigint not null,
    last_used_at bigint
);

create index factors_by_user on factors (user_id, id);

create table recovery_codes (
    user_id uuid not null,
    -- SHA-256 in base64url. A code has 80 random bits, so no salt and no slow hash are needed.
    hash text not null,
    used_at bigint,
    primary key (user_id, hash)
);

-- The challenges of logins that were completed. Each can be completed once. Rows are kept until the challenge expires.
create table completed_challenges (
    id uuid primary key,
    expires_at bigint not null
);

create index completed_challenges_by_expiry on completed_challenges (expires_at);

insert into compatible_migrations (version) values (17);
