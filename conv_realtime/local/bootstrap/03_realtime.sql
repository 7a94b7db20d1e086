-- Broadcasts as rows: whatever is inserted into realtime.messages is sent to its topic, and the
-- policies on that table say who may listen (select) and who may send (insert).
create schema if not exists realtime;
grant usage on schema realtime to postgres, anon, authenticated, service_role, supabase_realtime_admin;

create table if not exists realtime.messages (
  topic text not null,
  extension text not null,
  payload jsonb,
  event text,
  private boolean default false,
  updated_at timestamp not null default now(),
  inserted_at timestamp not null default now(),
  id uuid not null default gen_random_uuid(),
  primary key (id, inserted_at)
) partition by range (inserted_at);
alter table realtime.messages add column if not exists binary_payload bytea;

alter table realtime.messages enable row level security;
alter table realtime.messages owner to supabase_realtime_admin;
grant select, insert, update on realtime.messages to postgres, anon, authenticated, service_role;

-- `postgres` makes policies on the table, for which it must count as its owner. Everything else
-- that an owner could do is refused below, as it is on the hosted platform. PostgreSQL 15 knows no
-- membership that inherits and cannot be put on.
do $$
begin
  if current_setting('server_version_num')::int >= 160000 then
    execute 'grant supabase_realtime_admin to postgres with inherit true, set false, admin false';
  else
    grant supabase_realtime_admin to postgres;
  end if;
end $$;

create or replace function realtime.guard_schema() returns event_trigger
language plpgsql
as $$
declare
  command record;
begin
  if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
    return;
  end if;
  for command in select * from pg_catalog.pg_event_trigger_ddl_commands() loop
    if command.command_tag not in ('CREATE POLICY', 'ALTER POLICY')
      and (command.schema_name = 'realtime' or command.object_identity like '% on realtime.%')
    then
      raise exception 'must be owner of %', command.object_identity using errcode = '42501';
    end if;
  end loop;
end $$;

create or replace function realtime.guard_schema_drop() returns event_trigger
language plpgsql
as $$
declare
  dropped record;
begin
  if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
    return;
  end if;
  for dropped in select * from pg_catalog.pg_event_trigger_dropped_objects() loop
    if dropped.original and dropped.object_type <> 'policy'
      and (dropped.schema_name = 'realtime' or dropped.object_identity like '% on realtime.%')
    then
      raise exception 'must be owner of %', dropped.object_identity using errcode = '42501';
    end if;
  end loop;
end $$;

drop event trigger if exists local_realtime_guard;
create event trigger local_realtime_guard on ddl_command_end
  execute function realtime.guard_schema();
drop event trigger if exists local_realtime_guard_drop;
create event trigger local_realtime_guard_drop on sql_drop
  execute function realtime.guard_schema_drop();

-- One partition a day, made ahead, kept for three days. The owner of the data directory calls it
-- at every start and once in a while; returns how many partitions it made or dropped.
create or replace function realtime.maintain_partitions(days_ahead int default 7) returns int
language plpgsql
set search_path = ''
as $$
declare
  today date := (now() at time zone 'utc')::date;
  wanted date;
  old record;
  changed int := 0;
begin
  for step in -1 .. days_ahead loop
    wanted := today + step;
    if pg_catalog.to_regclass('realtime.messages_' || pg_catalog.to_char(wanted, 'YYYY_MM_DD')) is null
    then
      execute format(
        'create table realtime.%I partition of realtime.messages for values from (%L) to (%L)',
        'messages_' || pg_catalog.to_char(wanted, 'YYYY_MM_DD'), wanted, wanted + 1
      );
      changed := changed + 1;
    end if;
  end loop;
  for old in
    select child.relname as name
    from pg_catalog.pg_inherits as link
    join pg_catalog.pg_class as child on child.oid = link.inhrelid
    where link.inhparent = 'realtime.messages'::pg_catalog.regclass
      and child.relname < 'messages_' || pg_catalog.to_char(today - 3, 'YYYY_MM_DD')
  loop
    execute format('drop table realtime.%I', old.name);
    changed := changed + 1;
  end loop;
  return changed;
end $$;
revoke execute on function realtime.maintain_partitions(int) from public;

create or replace function realtime.topic() returns text
language sql stable
as $$
  select nullif(current_setting('realtime.topic', true), '')
$$;

-- Never fails the caller's statement: what cannot be sent is told as a warning.
create or replace function realtime.send(
  payload jsonb, event text, topic text, private boolean default true
) returns void
language plpgsql
as $$
declare
  message uuid := gen_random_uuid();
begin
  if jsonb_typeof(payload) is distinct from 'object' then
    raise warning 'WarnSendingBroadcastMessage: the payload is no JSON object';
    return;
  end if;
  perform set_config('realtime.topic', topic, true);
  insert into realtime.messages (id, payload, event, topic, private, extension)
  values (
    message,
    jsonb_build_object('id', message) || payload,
    event, topic, private, 'broadcast'
  );
exception when others then
  raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end $$;

-- Opaque bytes: they reach the clients of protocol 2.0.0 alone.
create or replace function realtime.send_binary(
  payload bytea, event text, topic text, private boolean default true
) returns void
language plpgsql
as $$
begin
  perform set_config('realtime.topic', topic, true);
  insert into realtime.messages (binary_payload, event, topic, private, extension)
  values (payload, event, topic, private, 'broadcast');
exception when others then
  raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end $$;

create or replace function realtime.broadcast_changes(
  topic_name text, event_name text, operation text, table_name text, table_schema text,
  new record, old record, level text default 'ROW'
) returns void
language plpgsql
as $$
begin
  if level = 'STATEMENT' then
    raise exception 'function can only be triggered for each row, not for each statement';
  end if;
  if operation not in ('INSERT', 'UPDATE', 'DELETE') then
    raise exception 'Unexpected operation type: %', operation;
  end if;
  perform realtime.send(
    jsonb_build_object(
      'operation', operation,
      'table', table_name,
      'schema', table_schema,
      'record', to_jsonb(new),
      'old_record', to_jsonb(old)
    ),
    event_name, topic_name, true
  );
end $$;

grant execute on all functions in schema realtime
  to postgres, anon, authenticated, service_role, supabase_realtime_admin;
revoke execute on function realtime.maintain_partitions(int)
  from postgres, anon, authenticated, service_role, supabase_realtime_admin;

-- What a role with these claims may do on a private channel. It leaves a probe row and the role
-- behind: the caller rolls back. A policy that fails allows nothing; a database in trouble raises.
create schema if not exists local_supabase;
create or replace function local_supabase.channel_access(
  channel text, as_role text, claims text, subject text, out may_read boolean, out may_write boolean
) language plpgsql
as $$
declare
  probe uuid := gen_random_uuid();
  trouble constant text := '^(08|40|53|55|57|58)';
begin
  may_read := false;
  may_write := false;
  insert into realtime.messages (id, topic, extension) values (probe, channel, 'broadcast');
  begin
    perform set_config('realtime.topic', channel, true),
            set_config('request.jwt.claims', claims, true),
            set_config('request.jwt.claim.sub', subject, true),
            set_config('request.jwt.claim.role', as_role, true),
            set_config('request.headers', '{}', true),
            set_config('role', as_role, true);
  exception when others then
    return;  -- there is no such role
  end;
  begin
    perform from realtime.messages where id = probe and topic = channel and extension = 'broadcast';
    may_read := found;
  exception when others then
    if sqlstate ~ trouble then
      raise;
    end if;
  end;
  begin
    insert into realtime.messages (topic, extension) values (channel, 'broadcast');
    may_write := true;
  exception when others then
    if sqlstate ~ trouble then
      raise;
    end if;
  end;
end $$;
revoke execute on function local_supabase.channel_access(text, text, text, text) from public;

select realtime.maintain_partitions();
