-- How often somebody has tried a wrong password, whether the address has an account or not. It slows guessing down on
-- all replicas together.

create table guesses (
    -- SHA-256 of the address in base64url.
    address text primary key,
    -- The day since the Unix epoch that `failures` counts.
    day bigint not null,
    failures bigint not null,
    failed_at bigint not null,
    -- Attempts that have been let in and not been judged yet, and when the last one was let in.
    pending bigint not null,
    asked_at bigint not null
);

create index guesses_by_day on guesses (day);
