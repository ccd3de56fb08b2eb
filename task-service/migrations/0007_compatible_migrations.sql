-- The migrations that older programs can ignore: with the tables that they leave, a program that knows only the
-- migrations before them works as before. Each such migration adds its version. A program refuses tables with other
-- migrations that it does not know.
create table compatible_migrations (
    version bigint primary key
);
