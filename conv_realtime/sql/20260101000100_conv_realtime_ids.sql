-- A conversation's id names its owner. It is the UUIDv5 of ["conversation", owner, source,
-- machine, session, agent], and the topic of its channel is made of it. A user therefore may
-- only add a conversation whose UUIDv5 follows from their own row: nobody can be there first
-- with another's id, to listen on its channel or to send on it.
--
-- Ids of other versions (random ones) cannot be computed by a stranger and are taken as they
-- come; their channel belongs to whoever wrote the id first.

-- PostgreSQL has no SHA-1 without an extension, and where extensions live differs by project.
create function conv_realtime.sha1(data bytea) returns bytea
language plpgsql immutable strict parallel safe set search_path = '' as $$
declare
  mask constant bigint := 4294967295;
  size constant int := octet_length(data);
  padded bytea := data || '\x80'::bytea
    || decode(repeat('00', (119 - size % 64) % 64), 'hex') || int8send(size::bigint * 8);
  w bigint[];
  x bigint;
  h0 bigint := 1732584193;
  h1 bigint := 4023233417;
  h2 bigint := 2562383102;
  h3 bigint := 271733878;
  h4 bigint := 3285377520;
  a bigint;
  b bigint;
  c bigint;
  d bigint;
  e bigint;
begin
  for block in 0 .. octet_length(padded) / 64 - 1 loop
    for i in 0 .. 15 loop
      w[i] := ('x' || encode(substr(padded, block * 64 + i * 4 + 1, 4), 'hex'))::bit(32)::bigint;
    end loop;
    for i in 16 .. 79 loop
      x := w[i - 3] # w[i - 8] # w[i - 14] # w[i - 16];
      w[i] := ((x << 1) & mask) | (x >> 31);
    end loop;
    a := h0;
    b := h1;
    c := h2;
    d := h3;
    e := h4;
    for i in 0 .. 79 loop
      x := (((a << 5) & mask) | (a >> 27)) + e + w[i] + case
        when i < 20 then ((b & c) | ((b # mask) & d)) + 1518500249
        when i < 40 then (b # c # d) + 1859775393
        when i < 60 then ((b & c) | (b & d) | (c & d)) + 2400959708
        else (b # c # d) + 3395469782
      end;
      e := d;
      d := c;
      c := ((b << 30) & mask) | (b >> 2);
      b := a;
      a := x & mask;
    end loop;
    h0 := (h0 + a) & mask;
    h1 := (h1 + b) & mask;
    h2 := (h2 + c) & mask;
    h3 := (h3 + d) & mask;
    h4 := (h4 + e) & mask;
  end loop;
  return int8send((h0 << 32) | h1) || int8send((h2 << 32) | h3) || substr(int8send(h4), 5);
end
$$;

-- The text as a JSON string in ASCII, as Python's json.dumps writes it.
create function conv_realtime.ascii_json(value text) returns text
language plpgsql immutable strict parallel safe set search_path = '' as $$
declare
  quoted text := to_json(value)::text;
begin
  if quoted ~ '^[ -~]*$' then
    return quoted;
  end if;
  return (
    select string_agg(case
      when code between 32 and 126 then chr(code)
      when code < 65536 then '\u' || lpad(to_hex(code), 4, '0')
      else '\u' || to_hex(55296 + (code - 65536) / 1024)
        || '\u' || to_hex(56320 + (code - 65536) % 1024)
    end, '' order by place)
    from string_to_table(quoted, null) with ordinality as letters (letter, place),
      lateral ascii(letter) as code
  );
end
$$;

create function conv_realtime.conversation_id(
  owner uuid, source text, machine text, session text, agent text
) returns uuid
language plpgsql immutable parallel safe set search_path = '' as $$
declare
  namespace constant bytea := '\x34c9f3c278415b5d862d3da6064f8d84';
  name text := format('["conversation","%s",%s,%s,%s,%s]', owner,
    conv_realtime.ascii_json(source), conv_realtime.ascii_json(machine),
    conv_realtime.ascii_json(session), conv_realtime.ascii_json(coalesce(agent, '')));
  hash bytea := substr(conv_realtime.sha1(namespace || convert_to(name, 'UTF8')), 1, 16);
begin
  hash := set_byte(hash, 6, (get_byte(hash, 6) & 15) | 80); -- version 5
  hash := set_byte(hash, 8, (get_byte(hash, 8) & 63) | 128); -- variant of RFC 9562
  return encode(hash, 'hex')::uuid;
end
$$;

create function conv_realtime.prove_id() returns trigger
language plpgsql set search_path = '' as $$
begin
  -- What a check of the table refuses in any case is not worth the time of hashing it.
  if greatest(octet_length(new.source), octet_length(new.machine),
      octet_length(new.session_id), octet_length(new.agent_id)) > 1000000 then
    return new;
  end if;
  -- Roles that row security does not bind (service_role, postgres) write for others.
  if row_security_active('public.conversations')
    and not exists (
      select from public.conversations c where c.id = new.id and c.owner_id = new.owner_id)
    and new.id is distinct from conv_realtime.conversation_id(
      new.owner_id, new.source, new.machine, new.session_id, new.agent_id)
  then
    raise exception 'conversation % is not one of owner %', new.id, new.owner_id using
      errcode = 'check_violation',
      hint = 'Its id must be the UUIDv5 of its owner_id, source, machine, session_id, agent_id.';
  end if;
  return new;
end
$$;

create trigger change_1_proof before insert on public.conversations
  for each row when (new.id::text ~ '^.{14}5.{4}[89ab]')
  execute function conv_realtime.prove_id();

revoke all on function
  conv_realtime.sha1(bytea),
  conv_realtime.ascii_json(text),
  conv_realtime.conversation_id(uuid, text, text, text, text),
  conv_realtime.prove_id()
  from public, anon, authenticated, service_role;
-- prove_id() runs as the writer.
grant execute on function
  conv_realtime.sha1(bytea),
  conv_realtime.ascii_json(text),
  conv_realtime.conversation_id(uuid, text, text, text, text)
  to authenticated, service_role;
insert into conv_realtime.versions values ('20260101000100');
