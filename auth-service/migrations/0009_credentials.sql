-- The number of password changes of an account. A login, a password change or a deletion fails if the password was
-- changed after it was verified. A new hash of the same password does not count.
alter table users add column password_version bigint not null default 0;

-- What a service token permits, separated by spaces. Tokens from before scopes existed permit everything, because the
-- database does not know what they were issued for.
alter table service_tokens add column scopes text not null default 'tokens.verify clients.forward';

-- Wrong passwords are counted separately for each network from which an account was used. All other networks share the
-- row without a network.
alter table guesses rename to guesses_by_address;

create table guesses (
    -- SHA-256 of the email address in base64url, whether or not the address has an account.
    address text not null,
    -- An IPv4 address or an IPv6 /64 network from which the account was used; else empty.
    network text not null,
    -- The day since the Unix epoch that `failures` counts.
    day bigint not null,
    -- Wrong passwords since the last correct one.
    failures bigint not null,
    failed_at bigint not null,
    -- When the account was last used from the network; 0 without a network.
    succeeded_at bigint not null,
    primary key (address, network)
);

insert into guesses (address, network, day, failures, failed_at, succeeded_at)
select address, '', day, failures, failed_at, 0 from guesses_by_address;

drop table guesses_by_address;

create index guesses_by_day on guesses (day);
