-- Reading changes so that none is missed.
--
-- Transactions commit in another order than they began, so "everything after the last number
-- seen" loses what an older transaction commits later. A reader therefore goes by transaction
-- and reads only below the oldest transaction that still runs: nothing can appear there any
-- more. A long write transaction anywhere in the database holds readers back.
--
-- A cursor is <stream>.<position>. The position is a transaction, all of those before it read,
-- or <transaction>-<table>-<revision>-<number>, read up to and including that row. Compared as
-- arrays of integers, positions of one stream are in reading order. A cursor moves only over
-- rows: where nothing changed it stays the same, whatever else goes on in the database.

create function conv_realtime.head(
  out stream text, out horizon bigint, out newest bigint
)
language plpgsql stable security definer set search_path = '' as $$
declare
  latest conv_realtime.streams;
  here text := conv_realtime.fingerprint();
  origin uuid := (select s.seed from conv_realtime.streams s order by s.epoch limit 1);
  epoch bigint;
begin
  select * into latest from conv_realtime.streams s order by s.epoch desc limit 1;
  epoch := latest.epoch + case when latest.fingerprint = here then 0 else 1 end;
  stream := left(
    encode(sha256(convert_to(format('%s/%s/%s', origin, epoch, here), 'UTF8')), 'hex'), 16);
  horizon := (epoch << 48) | pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
  newest := (epoch << 48) | pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
end
$$;

-- No tx for what is not a position.
create function conv_realtime.parse_position(
  place text, out tx bigint, out rank int, out revision bigint, out seq bigint
)
language plpgsql immutable set search_path = '' as $$
declare
  part text[] := regexp_match(place, '^(\d{1,18})(?:-([1-3])-(\d{1,18})-(\d{1,18}))?$');
begin
  tx := part[1]::bigint;
  rank := coalesce(part[2]::int, 0);
  revision := coalesce(part[3]::bigint, 0);
  seq := coalesce(part[4]::bigint, 0);
end
$$;

-- Behind the newest row that the caller can see and that no older transaction can precede.
create function conv_realtime.newest_place(everyone boolean, owner uuid, horizon bigint)
returns bigint
language sql stable set search_path = '' as $$
  select coalesce(max(newest.tx) + 1, 0) from (
    (select change_tx as tx from public.projects
      where owner_id = owner and change_tx < horizon
      order by change_tx desc, change_seq desc limit 1)
    union all
    (select change_tx as tx from public.conversations
      where owner_id = owner and change_tx < horizon
      order by change_tx desc, revision desc, change_seq desc limit 1)
    union all
    (select change_tx as tx from public.messages
      where owner_id = owner and change_tx < horizon
      order by change_tx desc, revision desc, change_seq desc limit 1)
    union all
    (select change_tx from public.projects
      where everyone and change_tx >= 0 and change_tx < horizon
      order by change_tx desc, change_seq desc limit 1)
    union all
    (select change_tx from public.conversations
      where everyone and change_tx >= 0 and change_tx < horizon
      order by change_tx desc, revision desc, change_seq desc limit 1)
    union all
    (select change_tx from public.messages
      where everyone and change_tx >= 0 and change_tx < horizon
      order by change_tx desc, revision desc, change_seq desc limit 1)
  ) newest
$$;

-- Up to max_rows rows (1 to 1000) that changed after the cursor, each once and as it is now, in
-- an order that every reader sees; a page ends early above 4 MB. null: where "now" is, 'start':
-- everything. A cursor that is not one of this database's answers resync.
--
-- A page costs what it holds only while rows come in an index's order. Where the planner takes an
-- owner for one of few rows (no statistics yet, or a plan kept for everybody) it would rather sort
-- all of them, for every page again: it is not asked.
create function public.changes_since(cursor text default null, max_rows int default 500)
returns jsonb
language plpgsql stable set search_path = '' set timezone = 'UTC'
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
declare
  wanted int := greatest(1, least(coalesce(max_rows, 500), 1000));
  top constant bigint := 9223372036854775807;
  bookkeeping constant text[] :=
    '{change_tx,change_seq,change_created_tx,change_told_at,change_forgotten}';
  everyone constant boolean := not row_security_active('public.messages');
  owner constant uuid := case when not everyone then auth.uid() end;
  head record;
  since record;
  revisions bigint[];
  seqs bigint[];
  found record;
  page jsonb[] := '{}';
  bytes bigint := 0;
  position text;
  last bigint;
  more boolean := false;
begin
  select * into head from conv_realtime.head();
  if cursor = 'start' then
    select * into since from conv_realtime.parse_position('0');
  elsif split_part(cursor, '.', 1) = head.stream then
    select * into since
    from conv_realtime.parse_position(substr(cursor, length(head.stream) + 2));
  else
    select * into since from conv_realtime.parse_position(null);
  end if;

  -- Transactions that run may be newer than the snapshot knows, by far not by a million.
  if since.tx is null or since.tx > head.newest + 1048576 then
    return jsonb_build_object('changes', '[]'::jsonb,
      'cursor', head.stream || '.' || conv_realtime.newest_place(everyone, owner, head.horizon),
      'more', false, 'resync', cursor is not null);
  elsif (since.tx, since.rank) >= (head.horizon, 0) then
    return jsonb_build_object('changes', '[]'::jsonb, 'cursor', cursor,
      'more', false, 'resync', false);
  end if;

  -- Where each table goes on within the transaction of the cursor.
  for rank in 1..3 loop
    revisions[rank] := case
      when rank < since.rank then top when rank = since.rank then since.revision else -1 end;
    seqs[rank] := case
      when rank < since.rank then top when rank = since.rank then since.seq else -1 end;
  end loop;

  -- An owner's rows by one set of indexes, everybody's by the other: three of six are empty.
  -- A fixed limit lets the plan be kept.
  for found in
    with places as (
      (select 1 as rank, p.change_tx as tx, 0::bigint as revision, p.change_seq as seq,
          p.id, p.owner_id, p.change_created_tx as created_tx
        from public.projects p
        where p.owner_id = owner
          and (p.change_tx, p.change_seq) > (since.tx, seqs[1])
          and p.change_tx < head.horizon
        order by p.change_tx, p.change_seq limit 1001)
      union all
      (select 2, c.change_tx, c.revision, c.change_seq,
          c.id, c.owner_id, c.change_created_tx
        from public.conversations c
        where c.owner_id = owner
          and (c.change_tx, c.revision, c.change_seq) > (since.tx, revisions[2], seqs[2])
          and c.change_tx < head.horizon
        order by c.change_tx, c.revision, c.change_seq limit 1001)
      union all
      (select 3, m.change_tx, m.revision, m.change_seq,
          m.id, m.owner_id, m.change_created_tx
        from public.messages m
        where m.owner_id = owner
          and (m.change_tx, m.revision, m.change_seq) > (since.tx, revisions[3], seqs[3])
          and m.change_tx < head.horizon
        order by m.change_tx, m.revision, m.change_seq limit 1001)
      union all
      (select 1, p.change_tx, 0, p.change_seq,
          p.id, p.owner_id, p.change_created_tx
        from public.projects p
        where everyone and p.change_tx >= 0
          and (p.change_tx, p.change_seq) > (since.tx, seqs[1])
          and p.change_tx < head.horizon
        order by p.change_tx, p.change_seq limit 1001)
      union all
      (select 2, c.change_tx, c.revision, c.change_seq,
          c.id, c.owner_id, c.change_created_tx
        from public.conversations c
        where everyone and c.change_tx >= 0
          and (c.change_tx, c.revision, c.change_seq) > (since.tx, revisions[2], seqs[2])
          and c.change_tx < head.horizon
        order by c.change_tx, c.revision, c.change_seq limit 1001)
      union all
      (select 3, m.change_tx, m.revision, m.change_seq,
          m.id, m.owner_id, m.change_created_tx
        from public.messages m
        where everyone and m.change_tx >= 0
          and (m.change_tx, m.revision, m.change_seq) > (since.tx, revisions[3], seqs[3])
          and m.change_tx < head.horizon
        order by m.change_tx, m.revision, m.change_seq limit 1001)
      order by tx, rank, revision, seq limit wanted + 1
    )
    select places.*, case places.rank
      when 1 then (
        select to_jsonb(p) - bookkeeping || jsonb_build_object(
          'conversation_count', (
            select count(*) from public.conversations c
            where c.project_id = p.id and c.owner_id = p.owner_id and c.deleted_at is null),
          'status', case when p.updated_at > now() - interval '24 hours'
            then 'active' else 'inactive' end)
        from public.projects p where p.id = places.id and p.owner_id = places.owner_id)
      when 2 then (
        select to_jsonb(c) - bookkeeping || jsonb_build_object('project_name', p.name)
        from public.conversations c
        left join public.projects p on p.id = c.project_id and p.owner_id = c.owner_id
        where c.id = places.id and c.owner_id = places.owner_id)
      else (
        select to_jsonb(m) - bookkeeping || jsonb_build_object(
          'project_id', c.project_id,
          'conversation', jsonb_build_object(
            'id', c.id, 'title', c.title, 'source', c.source, 'project_name', p.name,
            'status', c.status, 'activity', c.activity, 'message_count', c.message_count))
        from public.messages m
        join public.conversations c on c.id = m.conversation_id and c.owner_id = m.owner_id
        left join public.projects p on p.id = c.project_id and p.owner_id = c.owner_id
        where m.id = places.id and m.owner_id = places.owner_id)
      end as data
    from places
    order by places.tx, places.rank, places.revision, places.seq
  loop
    if cardinality(page) = wanted or bytes > 4000000 then
      more := true;
      exit;
    end if;
    position := format('%s-%s-%s-%s', found.tx, found.rank, found.revision, found.seq);
    page := array_append(page, jsonb_build_object(
      'table', (array['projects', 'conversations', 'messages'])[found.rank],
      'created', found.created_tx >= since.tx,
      'cursor', head.stream || '.' || position, -- whoever has read this row goes on from there
      'row', found.data));
    bytes := bytes + pg_column_size(found.data);
    last := found.tx;
  end loop;

  return jsonb_build_object(
    'changes', to_jsonb(page),
    'cursor', head.stream || '.' || case
      when more then position
      when last is not null then (last + 1)::text -- the whole transaction has been read
      when cursor = 'start' then '0'
      else substr(cursor, length(head.stream) + 2) end,
    'more', more,
    'resync', false);
end
$$;
comment on function public.changes_since(text, int) is
  'conv_realtime: rows changed since a cursor; null = only the cursor, start = everything';

-- What `conv-realtime verify` compares: {"<conversation id>": {messages, deleted, max_revision,
-- digest, revision, message_count, tool_usage_count, forgotten}}. The digest is the SHA-256, in hex, of the
-- live messages in the order of their ids, a line each, joined by newlines:
-- id:seq:revision:role:sha256(text)
create function public.conversation_digests(ids uuid[]) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_object_agg(c.id, jsonb_build_object(
    'messages', m.live, 'deleted', m.deleted, 'max_revision', m.max_revision,
    'digest', encode(sha256(convert_to(m.lines, 'UTF8')), 'hex'),
    'revision', c.revision, 'message_count', c.message_count,
    'tool_usage_count', c.tool_usage_count, 'forgotten', c.change_forgotten)), '{}')
  from public.conversations c
  cross join lateral (
    select count(*) filter (where x.deleted_at is null) as live,
      count(*) filter (where x.deleted_at is not null) as deleted,
      coalesce(max(x.revision), 0) as max_revision,
      coalesce(string_agg(
        format('%s:%s:%s:%s:%s', x.id, x.seq, x.revision, x.role,
          encode(sha256(convert_to(x.text, 'UTF8')), 'hex')), E'\n' order by x.id
      ) filter (where x.deleted_at is null), '') as lines
    from public.messages x
    where x.conversation_id = c.id and x.owner_id = c.owner_id
  ) m
  where c.id = any (ids)
$$;
comment on function public.conversation_digests(uuid[]) is
  'conv_realtime: per conversation, what verify compares with the transcripts';

revoke all on function public.changes_since(text, int), public.conversation_digests(uuid[])
  from public, anon, authenticated, service_role;
grant execute on function public.changes_since(text, int), public.conversation_digests(uuid[])
  to authenticated, service_role;

revoke all on function
  conv_realtime.head(),
  conv_realtime.newest_place(boolean, uuid, bigint),
  conv_realtime.parse_position(text)
  from public, anon, authenticated, service_role;
-- changes_since() runs as its caller.
grant execute on function
  conv_realtime.head(),
  conv_realtime.newest_place(boolean, uuid, bigint),
  conv_realtime.parse_position(text)
  to authenticated, service_role;
insert into conv_realtime.versions values ('20260101000300');
