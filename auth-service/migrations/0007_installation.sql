-- Which secrets belong to this database, so that two programs with different ones do not share it: each would refuse the
-- tokens of the other.

create table installation (
    id bigint primary key check (id = 1),
    -- HMAC-SHA256 of a constant text under the secret of the refresh tokens, in base64url.
    refresh_secret_fingerprint text not null
);

-- The ids of the keys in the key file that was used last.
create table signing_keys (
    id text primary key
);
