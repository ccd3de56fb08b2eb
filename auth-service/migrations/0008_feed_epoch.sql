-- Identifies the database whose sequence numbers the feed reports. The server sets it when it starts.
alter table feed add column epoch uuid;
