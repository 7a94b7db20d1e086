-- Somebody else's: no test may ever see it.
insert into todos (id, owner_id, text)
values (gen_random_uuid(), gen_random_uuid(), 'mind my own business');
