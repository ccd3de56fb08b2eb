-- The outbox: mails that wait to be sent. A mail is stored in the transaction of its cause. Rows of sent mails are kept,
-- because their links refer to them.
create table mails (
    id uuid primary key,
    -- The account, or a pseudo id for an address without an account.
    user_id uuid not null,
    -- What the mail is about.
    template text not null,
    recipient text not null,
    -- A JSON object of strings, without secrets.
    details text not null,
    -- A digest of what the link in the mail changes, when the mail was stored. Empty if there is no link.
    account_state text not null,
    -- Whether it was requested; else it informs about a change. The number of each is limited.
    is_requested boolean not null,
    -- pending, sent, failed, or obsolete: not sent because its link was no longer valid.
    state text not null,
    -- How often a server began to send it. Identifies the last of these attempts.
    attempts bigint not null,
    -- When a server may send it. While a server is sending it, when others may assume that this server has crashed.
    next_attempt_at bigint not null,
    -- Why the last attempt failed.
    last_error text not null,
    created_at bigint not null
);

create index mails_by_user on mails (user_id, id);
create index mails_by_age on mails (created_at);
create index mails_by_next_attempt on mails (next_attempt_at) where state = 'pending';

-- The number of changes of the email address. Links of earlier mails are then no longer valid.
alter table users add column email_version bigint not null default 0;

insert into compatible_migrations (version) values (16);
