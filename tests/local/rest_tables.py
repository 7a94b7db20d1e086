"""Tables and functions for the Data API's tests, made once a run."""

from __future__ import annotations

SCHEMA = """
create table api_notes (
  id uuid primary key default gen_random_uuid(),
  owner uuid not null default auth.uid(),
  seq int not null,
  text text,
  content jsonb,
  made_at timestamptz not null default now(),
  unique (owner, seq)
);
alter table api_notes enable row level security;
create policy mine on api_notes for all to authenticated
  using (owner = auth.uid()) with check (owner = auth.uid());
revoke all on api_notes from anon;

create table api_events (id bigint generated always as identity primary key, key text unique);
alter table api_events enable row level security;
create policy put on api_events for insert to authenticated with check (true);

create table api_quiet (id int primary key, value text);
create function api_keep_quiet() returns trigger language plpgsql as $$
begin
  if new is not distinct from old then return null; end if;
  return new;
end $$;
create trigger api_keep_quiet before update on api_quiet
  for each row execute function api_keep_quiet();

create function api_add(a int, b int default 1) returns int language sql as 'select a + b';
create function api_whoami() returns jsonb language sql stable as $$
  select jsonb_build_object(
    'role', current_user, 'uid', auth.uid(), 'timeout', current_setting('statement_timeout'),
    'method', current_setting('request.method'), 'path', current_setting('request.path'),
    'history', current_setting('request.headers')::json ->> 'x-conv-realtime-history')
$$;
create function api_series(n int) returns setof int language sql as 'select generate_series(1, n)';
create function api_pairs(n int) returns table (a int, b text) language sql as
  $$ select i, 'x' || i from generate_series(1, n) i $$;
create function api_become(who text) returns text language sql as
  $$ select set_config('request.jwt.claim.sub', who, false) $$;
create function api_nothing() returns void language sql as 'select';
create function api_write() returns int language sql as
  'insert into api_quiet values (-1, null) returning id';
create function api_raise(code text) returns void language plpgsql as
  $$ begin raise exception using errcode = code, message = 'told', hint = 'do that'; end $$;
create function api_sleep(seconds float) returns void language sql as 'select pg_sleep(seconds)';
"""
