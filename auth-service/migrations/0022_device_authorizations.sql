-- Requests of devices for a session (RFC 8628). A request is deleted when the device gets its session.
create table device_authorizations (
    -- The device code contains it, encrypted, so the code itself is not stored.
    id uuid primary key,
    -- Without its hyphen. It gives no access: only a user who has logged in can do something with it.
    user_code text not null unique,
    -- The name that the client has given itself.
    client_id text not null,
    -- The scopes of the session, separated by spaces; null if it permits all that the roles of the user do.
    scope text,
    user_agent text not null,
    ip_address text not null,
    -- pending, approved or denied.
    state text not null,
    -- Who has decided, in which session, how and when this user had proved their identity, and the version of the password.
    user_id uuid,
    session_id uuid,
    amr text,
    authenticated_at bigint,
    password_version bigint,
    -- The minimum time between two polls in seconds, and when the last one came.
    interval_seconds bigint not null,
    polled_at bigint,
    created_at bigint not null,
    expires_at bigint not null
);

create index device_authorizations_by_end on device_authorizations (expires_at);

-- What the access tokens of a session permit, separated by spaces; null if they permit all that the roles of the user do.
alter table sessions add column scope text;

insert into compatible_migrations (version) values (22);
