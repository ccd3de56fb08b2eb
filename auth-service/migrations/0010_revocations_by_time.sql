-- Finds the sessions that were revoked recently, latest first, without reading those that were revoked earlier.
create index sessions_by_revoked_at on sessions (revoked_at, id) where revoked_at is not null;
