-- +goose Up
create table notes (
    id         bigint generated always as identity primary key,
    title      text not null check (char_length(title) between 1 and 200),
    body       text not null default '' check (char_length(body) <= 10000),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

-- Supabase gives the roles of its public API every privilege on every table, goose's
-- own included. Row-level security shuts them out. The tables' owner is exempt from
-- it; the policies let in every other role that you have given a privilege.
alter table notes enable row level security;
create policy not_the_api on notes using (current_user not in ('anon', 'authenticated'));
alter table goose_db_version enable row level security;
create policy not_the_api on goose_db_version using (current_user not in ('anon', 'authenticated'));

-- +goose Down
drop policy not_the_api on goose_db_version;
drop table notes;
