"""The project's address: is a Supabase there, and what time is it?"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

import httpx

from conv_realtime.cli.checkup import Check, failed, ok, warning
from conv_realtime.cli.checkup.gateway import Answer, Gateway
from conv_realtime.core.keys import without_secrets

DATA_API = "dashboard, Project Settings, Data API"
_APIS = ("rest", "auth", "realtime", "storage", "functions", "graphql")
FORGIVEN = timedelta(seconds=30)
"""By PostgREST, of clocks that differ."""


async def first_answer(gateway: Gateway) -> Answer | Check:
    """Return what a project says of its schema's version, or why no project answers."""
    if (wrong := _form_of(gateway.access.url)) is not None:
        return wrong
    url = without_secrets(gateway.access.url)
    try:
        answer = await gateway.ask("POST", "/rest/v1/rpc/schema_version", {})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return _unreached(url, error)
    if 300 <= answer.status < 400:
        place = answer.headers.get("location", "")[:200]
        return failed("url", f"{url} leads elsewhere: {place}", "set SUPABASE_URL to that")
    if answer.status == 540:
        return failed(
            "url",
            f"{url} is a project that is paused",
            "restore it in its dashboard; on the Free plan a week without use pauses it",
        )
    if answer.status >= 500 and answer.code[:2] != "PG":
        return failed(
            "url",
            f"{url} answers {answer.status} {answer.message}".rstrip(),
            "wait some minutes, then see the project's health in its dashboard"
            " and https://status.supabase.com",
        )
    if answer.code.startswith("PGRST00"):
        return failed(
            "url",
            f"the project's database is away ({answer.code} {answer.message})",
            "wait some minutes; if it stays so, restart the project"
            " (dashboard, Project Settings, General); of a local one supabase/postgres.log below"
            " the state directory says why",
        )
    if not answer.of_a_project:
        return failed(
            "url",
            f"what answers at {url} is no Supabase (HTTP {answer.status})",
            f"copy the project's URL ({DATA_API}); a network that wants a sign-in answers so, too",
        )
    return answer


def _form_of(url: str) -> Check | None:
    """Return what is wrong with a URL by its looks, None if nothing."""
    try:
        parts = urlsplit(url)
    except ValueError:  # half an IPv6 address
        parts = urlsplit("")
    if parts.scheme not in ("http", "https"):
        what = "the address of a database" if parts.scheme.startswith("postgres") else "no URL"
        advice = f"set it to the project's, https://….supabase.co ({DATA_API})"
        return failed("url", f"SUPABASE_URL is {what}", advice)
    words = parts.path.strip("/").split("/")
    if parts.hostname in ("supabase.com", "app.supabase.com"):
        ref = words[words.index("project") + 1 :][:1] if "project" in words else []
        right = f"https://{ref[0]}.supabase.co" if ref else f"the project's URL ({DATA_API})"
        return failed("url", "SUPABASE_URL is the dashboard's address", f"set it to {right}")
    if words[0] in _APIS:
        right = f"{parts.scheme}://{parts.netloc}"
        return failed("url", f"SUPABASE_URL has a path, {parts.path}", f"set it to {right}")
    return None


def _unreached(url: str, error: Exception) -> Check:
    """Return why nothing answers."""
    told = str(error) or type(error).__name__
    host = urlsplit(url).hostname
    if isinstance(error, httpx.TimeoutException):
        advice = "see whether this machine has a network, and whether a firewall is in between"
    elif "WRONG_VERSION" in told:
        advice = (
            "what listens there speaks no TLS: set SUPABASE_URL to http://…, or to another port"
        )
    elif "CERTIFICATE" in told.upper() or "SSL" in told.upper():
        advice = (
            "set the clock, or give the certificate of the proxy in between:"
            " SSL_CERT_FILE=/path/to/ca.pem"
        )
    elif proxies := _proxies_for(url):
        advice = f"see whether the proxy is right that {proxies} names, and whether it is there"
    elif any(sign in told for sign in ("Name or service", "nodename", "No address", "getaddrinfo")):
        advice = (
            f"there is no host {host}: copy the project's URL ({DATA_API}); a project that was"
            " deleted has none, and without a network no name is found"
        )
    else:
        advice = (
            f"see whether {host} is right ({DATA_API}), and whether something listens there:"
            " a local one is started by `conv-realtime local`"
        )
    return failed("url", f"{url} cannot be reached: {told[:200]}", advice)


def _proxies_for(url: str) -> str:
    """Return the variables that name a proxy on the way; to this machine itself there is none."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return ""
    wanted = ("all_proxy", f"{parts.scheme}_proxy")
    return ", ".join(sorted(name for name in os.environ if name.lower() in wanted))


def clock(answer: Answer, began: datetime, ended: datetime) -> Check:
    """Compare this clock with the server's, which tells whole seconds."""
    try:
        theirs = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError, TypeError):
        return warning("clock", "the server does not tell its time")
    ahead = (began + (ended - began) / 2 - theirs).total_seconds() - 0.5
    says = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's"
    if abs(ahead) <= FORGIVEN.total_seconds():
        return ok("clock", says, ahead_seconds=round(ahead, 1))
    return failed(
        "clock",
        says,
        "set this clock by the network (sudo timedatectl set-ntp true): tokens count as expired"
        " or not yet valid, and what is new as history",
        ahead_seconds=round(ahead, 1),
    )
