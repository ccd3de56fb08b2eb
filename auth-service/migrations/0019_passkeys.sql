-- Passkeys (W3C Web Authentication).

-- One row: the id of the site to which all passkeys belong. It is stored with the first passkey.
create table passkey_site (
    id bigint primary key check (id = 1),
    rp_id text not null
);

-- The random handle of each account that wanted to create a passkey, in base64url. Authenticators store it.
create table passkey_users (
    user_id uuid primary key,
    user_handle text not null
);

create table passkeys (
    id uuid primary key,
    user_id uuid not null,
    -- The id that the authenticator has chosen, in base64url.
    credential_id text not null unique,
    -- In the form of COSE, in base64url, and the number of its algorithm in the registry of COSE.
    public_key text not null,
    algorithm bigint not null,
    -- The number of signatures at the last use; zero if the authenticator does not count them.
    sign_count bigint not null,
    -- The known ways to reach the authenticator, separated by spaces.
    transports text not null,
    -- The model of the authenticator; all zeros if it does not reveal that.
    aaguid uuid not null,
    -- Whether the passkey may be copied to other devices of the user, and whether it has been.
    backup_eligible boolean not null,
    backed_up boolean not null,
    label text not null,
    created_at bigint not null,
    last_used_at bigint
);

create index passkeys_by_user on passkeys (user_id, id);

insert into compatible_migrations (version) values (19);
