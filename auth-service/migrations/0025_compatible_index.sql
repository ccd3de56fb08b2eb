-- Migration 20 only adds an index, but does not list itself. Older programs refused to start because of it.
insert into compatible_migrations (version) values (20), (25);
