const TODAY = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const BEFORE = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const WHOLE = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

/** The time of today, the day of what was before. */
export function Time({ at }: { at: string | null }) {
  if (!at) return null;
  const date = new Date(at);
  const today = date.toDateString() === new Date().toDateString();
  return (
    <time dateTime={at} title={WHOLE.format(date)}>
      {(today ? TODAY : BEFORE).format(date)}
    </time>
  );
}
