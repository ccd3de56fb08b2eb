-- Finds the active sessions of a user, and those just revoked that have no sequence number yet, without reading the
-- revoked ones, which remain until they expire: a script that logs in every five minutes leaves 2,000 within a week.
create index sessions_to_revoke on sessions (user_id, id) where revocation is null;
