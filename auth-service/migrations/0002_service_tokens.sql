-- What services prove themselves with that hold no key: opaque tokens, good until they are taken out of here.

create table service_tokens (
    -- SHA-256 in base64url. A token has 256 random bits, so no salt and no slow hash are needed.
    hash text primary key,
    -- One service may have several, so that one can take the place of another.
    name text not null,
    created_at bigint not null
);

create index service_tokens_by_name on service_tokens (name);
