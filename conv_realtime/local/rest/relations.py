"""How tables of schema `public` are related: foreign keys, seen from both of their ends."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from conv_realtime.local.rest.errors import ApiError

TO_ONE = ("many-to-one", "one-to-one")


class ForeignKey(NamedTuple):
    """A foreign key: its name, both tables, the pairs of columns, and whether they are unique."""

    name: str
    table: str
    target: str
    columns: tuple[tuple[str, str], ...]
    unique: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """One way from `source` to `target`; `columns` pairs a column there with one of the target.

    Through a `junction`, `columns` pairs the source's columns with the junction's, and `onward`
    the junction's with the target's.
    """

    source: str
    target: str
    name: str
    cardinality: str
    columns: tuple[tuple[str, str], ...]
    junction: str | None = None
    onward: tuple[tuple[str, str], ...] = ()
    onward_name: str = ""

    @property
    def to_one(self) -> bool:
        """Whether a row of the source has one row of the target at most."""
        return self.cardinality in TO_ONE

    def answers_to(self, name: str, hint: str | None) -> bool:
        """Says whether it is meant by `name` and `hint`, by the rules of PostgREST."""
        ours = self.columns[0][0] if len(self.columns) == 1 and not self.junction else None
        theirs = self.columns[0][1] if len(self.columns) == 1 and not self.junction else None
        if self.source == self.target:  # one foreign key, and a way in either direction
            if hint is None:
                many = self.cardinality == "one-to-many" and name == self.target
                return many or (self.cardinality == "many-to-one" and name == ours)
            return self.cardinality == "one-to-many" and name == self.target and hint == theirs
        if hint is None:
            return name in (self.target, ours) or (name == self.name and not self.junction)
        if name != self.target:
            return False
        return hint in ((self.junction,) if self.junction else (self.name, ours, theirs))

    def told(self) -> dict[str, str]:
        """Describes it for the details of an error."""
        ours, theirs = (", ".join(pair[side] for pair in self.columns) for side in (0, 1))
        if self.junction:
            onward = ", ".join(pair[0] for pair in self.onward)
            way = f"{self.junction} using {self.name}({theirs}) and {self.onward_name}({onward})"
        else:
            way = f"{self.name} using {self.source}({ours}) and {self.target}({theirs})"
        return {
            "cardinality": self.cardinality,
            "embedding": f"{self.source} with {self.target}",
            "relationship": way,
        }


Relations = Mapping[str, Sequence[Relation]]
"""All relations by their source."""


def find(relations: Relations, source: str, name: str, hint: str | None) -> Relation:
    """Gives the relation that a request means.

    Raises:
        ApiError: `PGRST200`, there is none; `PGRST201`, there are several.
    """
    ways = relations.get(source, ())
    fitting = [one for one in ways if one.answers_to(name, hint)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise _ambiguous(source, name, fitting)
    hinted = f"' using the hint '{hint}" if hint else ""
    raise ApiError(
        400,
        "PGRST200",
        f"Could not find a relationship between '{source}' and '{name}' in the schema cache",
        details=f"Searched for a foreign key relationship between '{source}' and '{name}{hinted}' "
        "in the schema 'public', but no matches were found.",
        hint=_nearest(relations, source, name),
    )


def _ambiguous(source: str, name: str, fitting: Sequence[Relation]) -> ApiError:
    hints = ", ".join(f"'{one.target}!{one.junction or one.name}'" for one in fitting)
    return ApiError(
        300,
        "PGRST201",
        f"Could not embed because more than one relationship was found for '{source}' and '{name}'",
        details=[one.told() for one in fitting],
        hint=f"Try changing '{name}' to one of the following: {hints}. "
        "Find the desired relationship in the 'details' key.",
    )


def _nearest(relations: Relations, source: str, name: str) -> str | None:
    if source in relations:
        wrong, known = name, [one.target for one in relations[source]]
    else:
        wrong, known = source, list(relations)
    near = [one for one in difflib.get_close_matches(wrong, known, 1, 0.6) if one != wrong]
    return f"Perhaps you meant '{near[0]}' instead of '{wrong}'." if near else None


def related(keys: Sequence[ForeignKey], primary: Mapping[str, Sequence[str]]) -> Relations:
    """Gives every relation that foreign keys make; `primary` are the primary keys by table."""
    ways: dict[str, list[Relation]] = {}
    for way in (*_direct(keys), *_through_junctions(keys, primary)):
        ways.setdefault(way.source, []).append(way)
    return ways


def _direct(keys: Sequence[ForeignKey]) -> Iterator[Relation]:
    for key in keys:
        back = tuple((theirs, ours) for ours, theirs in key.columns)
        there, here = ("one-to-one",) * 2 if key.unique else ("many-to-one", "one-to-many")
        yield Relation(key.table, key.target, key.name, there, key.columns)
        if key.table != key.target or not key.unique:
            yield Relation(key.target, key.table, key.name, here, back)


def _through_junctions(
    keys: Sequence[ForeignKey], primary: Mapping[str, Sequence[str]]
) -> Iterator[Relation]:
    """A table whose primary key holds two foreign keys relates the tables that they point to."""
    for one in keys:
        inside = set(primary.get(one.table, ()))
        for other in keys:
            if one.table != other.table or one.name == other.name:
                continue
            if {ours for key in (one, other) for ours, _ in key.columns} <= inside:
                back = tuple((theirs, ours) for ours, theirs in one.columns)
                yield Relation(
                    one.target,
                    other.target,
                    one.name,
                    "many-to-many",
                    back,
                    one.table,
                    other.columns,
                    other.name,
                )


FOREIGN_KEYS = """
select k.conname, t.relname, f.relname,
  (select json_agg(json_build_array(a.attname, b.attname) order by place)
    from unnest(k.conkey, k.confkey) with ordinality as pair(ours, theirs, place)
    join pg_attribute a on a.attrelid = k.conrelid and a.attnum = pair.ours
    join pg_attribute b on b.attrelid = k.confrelid and b.attnum = pair.theirs) as columns,
  exists (
    select from pg_index i
    where i.indrelid = k.conrelid and i.indisunique and i.indpred is null and i.indexprs is null
      and (select array_agg(n order by n) from unnest(i.indkey::int2[]) n)
        = (select array_agg(n order by n) from unnest(k.conkey) n)) as is_unique
from pg_constraint k
join pg_class t on t.oid = k.conrelid and t.relnamespace = 'public'::regnamespace
join pg_class f on f.oid = k.confrelid and f.relnamespace = 'public'::regnamespace
where k.contype = 'f' and k.conparentid = 0
order by t.relname, k.conname
"""


def foreign_key(name: str, table: str, target: str, columns: list[Any], unique: bool) -> ForeignKey:
    """Makes one of a row of `FOREIGN_KEYS`."""
    pairs = tuple((ours, theirs) for ours, theirs in columns)
    return ForeignKey(name, table, target, pairs, unique)
