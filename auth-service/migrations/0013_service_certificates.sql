-- The certificates with which services authenticate over mutual TLS, instead of tokens.

create table service_certificates (
    -- A subject alternative name of the certificate: a URI, or a DNS name in lower case.
    san text primary key,
    -- The name of the service, which may have tokens, too.
    name text not null,
    -- What the certificate permits, separated by spaces.
    scopes text not null,
    created_at bigint not null
);

insert into compatible_migrations (version) values (13);
