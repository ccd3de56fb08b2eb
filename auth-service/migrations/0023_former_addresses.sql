-- Finds the account that had an address before a change that can be undone. Nobody else gets the address until then.
create index mails_to_former_addresses on mails (recipient, created_at) where template = 'EMAIL_CHANGED';

insert into compatible_migrations (version) values (23);
