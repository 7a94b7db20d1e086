"""The kinds of secrets that are known, in the order in which they are tried.

Each is a regular expression of RE2: no look-around and no back-references, so its time grows
with the text and with nothing else. Its groups are the secret, but for those with a name. The
forms are those that the issuers document, or that their tokens are seen to have; where a prefix
is short, what follows has to be long.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from conv_realtime.core.redaction import doubt

_WORD = "[A-Za-z0-9_-]"
_BASE64_ENDS = "(?:[^A-Za-z0-9/+=]|$)"
_HEX = "[0-9a-f]"

# The first long repetition of a form: behind it nothing is rare any more.
_LONG = re.compile(r"\{(?:[89]|[1-9][0-9]+)(?:,[0-9]*)?\}")

# Written as they are and, in JSON or in code, as escapes of two to six characters.
_COLOUR = r"(?:\x1b|\\u001[bB]|\\x1[bB]|\\033|\\e)\[[0-9;:]*[A-Za-z]"
_ESCAPED = rf"\\[bfnrtv]|\\u00[0-9A-Fa-f]{{2}}|\\x[0-9A-Fa-f]{{2}}|%[0-9A-Fa-f]{{2}}|{_COLOUR}"
_BEGINNING = f"(?:^|[^A-Za-z0-9]|{_ESCAPED})"
"""A token begins where a word does ("task-force" holds no key), or behind what was escaped."""

_APART = f"(?:^|[^A-Za-z0-9_-]|{_ESCAPED})"
"""One that begins like a part of names does so where nothing is joined to it ("cache-key-1")."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One form of secret.

    Attributes:
        name: what the marker says.
        anchor: how it begins, which is looked for first, of all kinds at once: short, and rare.
        pattern: what it looks like, with its context; groups without a name are replaced.
        doubtful: given the groups, whether they are none after all: placeholders, code.
    """

    name: str
    anchor: str
    pattern: str
    doubtful: Callable[[list[str]], bool] | None = None


def _token(
    name: str,
    *forms: str,
    doubtful: Callable[[list[str]], bool] | None = None,
    before: str = _BEGINNING,
) -> Kind:
    """Return a kind that is known by its own beginning."""
    anchor = "|".join(map(_shortened, forms))
    return Kind(name, f"{before}(?:{anchor})", f"{before}({'|'.join(forms)})", doubtful)


def _named(
    name: str,
    before: str,
    secret: str,
    behind: str = "",
    *,
    doubtful: Callable[[list[str]], bool] | None = None,
) -> Kind:
    """Return a kind that is known by what stands before it."""
    return Kind(name, before + _shortened(secret), f"{before}({secret}){behind}", doubtful)


def _shortened(form: str) -> str:
    """Return a form up to its first long repetition, and four of that."""
    long = _LONG.search(form)
    return form[: long.start()] + "{4}" if long else form


_ASSISTANTS = (
    _token("anthropic-key", f"sk-ant-{_WORD}{{16,}}"),
    _token("openrouter-key", f"sk-or-{_WORD}{{20,}}"),
    _token("langfuse-key", f"sk-lf-{_HEX}{{8}}-[0-9a-f-]{{27}}"),
    _token(
        "openai-key",
        f"sk-(?:proj|svcacct|admin|service|None)-{_WORD}{{20,}}",
        f"sk-{_WORD}{{20,}}T3BlbkFJ{_WORD}{{20,}}",
        f"sess-{_WORD}{{40}}",
    ),
    # Many others give out keys of OpenAI's older form.
    _token("api-key", "sk-[A-Za-z0-9]{32,}", doubtful=doubt.no_digit_or_letter),
    _token("groq-key", "gsk_[A-Za-z0-9]{40,}"),
    _token("xai-key", "xai-[A-Za-z0-9]{60,}"),
    _token("perplexity-key", "pplx-[A-Za-z0-9]{40,}"),
    _token("replicate-token", "r8_[A-Za-z0-9]{37,}"),
    _token("hugging-face-token", "(?:hf|api_org)_[A-Za-z0-9]{30,}"),
    _token("cerebras-key", "csk-[a-z0-9]{40,}"),
    _token(
        "fireworks-key", "fw_[A-Za-z0-9]{22,}", doubtful=doubt.no_digit_or_letter, before=_APART
    ),
    _token("together-key", f"tgp_v1_{_WORD}{{40,}}"),
    _token("nvidia-key", f"nvapi-{_WORD}{{60,}}"),
    _token("pinecone-key", "pcsk_[A-Za-z0-9]{4,8}_[A-Za-z0-9]{60,}"),
    _token("langsmith-key", f"lsv2_(?:pt|sk)_{_HEX}{{32}}_{_HEX}{{10}}"),
    _token("tavily-key", f"tvly-{_WORD}{{20,}}", doubtful=doubt.no_digit_or_letter),
    _token("jina-key", f"jina_{_WORD}{{40,}}"),
    _token("e2b-key", f"e2b_{_HEX}{{40}}"),
)

_CODE = (
    _token("github-token", "gh[pousr]_[A-Za-z0-9]{30,}", "github_pat_[A-Za-z0-9_]{30,}"),
    _token(
        "gitlab-token",
        "gl(?:pat|oas|dt|rt|rtr|cbt|ptt|ft|imt|agent|wt|soat|ffct)-"
        rf"{_WORD}{{20,}}(?:\.[0-9a-z]{{2}}\.[0-9a-z]{{9}})?",
    ),
    _token("bitbucket-token", "ATBB[A-Za-z0-9]{24}[0-9A-F]{8}"),
    _token("atlassian-token", "AT(?:ATT|CTT)3[A-Za-z0-9_=-]{60,}"),
    _token("linear-key", "lin_(?:api|oauth)_[A-Za-z0-9]{32,}"),
    _token("npm-token", "npm_[A-Za-z0-9]{36,}"),
    _named(
        "npm-token",
        ":_(?:authToken|auth|password)=",
        "[A-Za-z0-9._~+/-]{12,}={0,2}",
        doubtful=doubt.word,
    ),
    _token("pypi-token", f"pypi-AgE{_WORD}{{50,}}"),
    _token("rubygems-key", f"rubygems_{_HEX}{{48}}"),
    _token(
        "crates-io-token", "cio[A-Za-z0-9]{32}\\b", doubtful=doubt.no_digit_or_letter, before=_APART
    ),
    _token("nuget-key", "oy2[a-z0-9]{43}\\b", before=_APART),
    _token("clojars-token", "CLOJARS_[a-z0-9]{60}"),
    _token("docker-token", f"dckr_(?:pat|oat)_{_WORD}{{20,}}"),
    _token("jfrog-key", "AKCp[A-Za-z0-9]{60,}"),
    _token("sonar-token", f"sq[pua]_{_HEX}{{40}}"),
    _token("sentry-token", "sntrys_[A-Za-z0-9+/=_-]{40,}", f"sntryu_{_HEX}{{64}}"),
    _token("postman-key", f"PMAK-{_HEX}{{24}}-{_HEX}{{34}}"),
    _token("figma-token", f"fig[duo]r?_{_WORD}{{40,}}"),
    _token("circleci-token", f"CCIP(?:AT|RJ)_[A-Za-z0-9]{{10,}}_{_HEX}{{40}}"),
)

_CLOUDS = (
    Kind(
        "aws-key",
        "A(?:KIA|SIA)[A-Z0-9]{4}",
        rf"{_BEGINNING}(A(?:KIA|SIA)[A-Z0-9]{{16}})"
        rf"""["',;:|\s]{{1,8}}([A-Za-z0-9/+]{{40}}){_BASE64_ENDS}""",
    ),
    _token("aws-key-id", "A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}\\b", doubtful=doubt.example),
    _named(
        "aws-secret",
        r"(?i:secret_?access_?key|aws_?secret_?key)\W{1,6}",
        "[A-Za-z0-9/+]{40}",
        _BASE64_ENDS,
        doubtful=doubt.example,
    ),
    _named(
        "aws-session-token",
        r"(?i:session_?token|security_?token)\W{1,6}",
        "[A-Za-z0-9/+=]{100,}",
    ),
    _token("bedrock-key", "ABSK[A-Za-z0-9+/]{100,}={0,2}", "bedrock-api-key-[A-Za-z0-9+/=]{40,}"),
    _token("google-key", f"AIza{_WORD}{{35,}}"),
    _token(
        "google-oauth",
        f"GOCSPX-{_WORD}{{20,}}",
        "ya29\\.[A-Za-z0-9_.-]{20,}",
        f"1//0{_WORD}{{40,}}",
    ),
    _named("azure-key", "(?:AccountKey|SharedAccessKey)=", "[A-Za-z0-9+/]{40,}={0,2}"),
    _named("azure-signature", "[?&]sig=", "[A-Za-z0-9%+/]{40,}={0,2}"),
    _named("azure-client-secret", "", "[0-9]Q~[A-Za-z0-9_~.-]{31,34}"),
    _token("digitalocean-token", f"do[opr]_v1_{_HEX}{{64}}"),
    _token(
        "cloudflare-token", "cf(?:k|ut|at)_[A-Za-z0-9]{40,}", f"v1\\.0-{_HEX}{{24}}-{_HEX}{{146}}"
    ),
    _token(
        "vercel-token",
        "vc[pairk]_[A-Za-z0-9]{24,}",
        "vercel_blob_rw_[A-Za-z0-9]{10,}_[A-Za-z0-9]{20,}",
    ),
    _token("netlify-token", "nf[pcoub]_[A-Za-z0-9]{36,}"),
    _token("fly-token", f"fo1_{_WORD}{{40,}}", "fm[12][ar]?_[A-Za-z0-9+/=_-]{80,}"),
    _token("heroku-key", f"HRKU-{_WORD}{{36,}}"),
    _token("render-key", "rnd_[A-Za-z0-9]{28,}"),
    _named("terraform-token", r"\.atlasv1\.", "[A-Za-z0-9_=-]{60,}"),
    _token("vault-token", f"hv[sbr]\\.{_WORD}{{24,}}"),
    _token("pulumi-token", f"pul-{_HEX}{{40}}", before=_APART),
    _token(
        "doppler-token",
        r"dp\.(?:pt|st|sa|ct|scim|audit)\.(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{40,}",
        before=_APART,
    ),
    _token("tailscale-key", "tskey-[a-z]{2,10}-[A-Za-z0-9]{8,}-[A-Za-z0-9]{20,}"),
)

_DATA = (
    _token("supabase-key", f"sb_secret_{_WORD}{{20,}}"),
    _token("supabase-token", f"sbp_(?:v[0-9]_)?{_HEX}{{40}}"),
    _token("planetscale-token", "pscale_(?:pw|tkn|oauth)_[A-Za-z0-9_.-]{32,}"),
    _token("neon-key", "napi_[a-z0-9]{40,}"),
    _token("databricks-token", f"dapi{_HEX}{{32}}(?:-[0-9])?"),
    Kind(  # "pattern" and "patch" begin so
        "airtable-token",
        rf"{_APART}pat[A-Za-z0-9]{{14}}\.{_HEX}{{4}}",
        rf"{_APART}(pat[A-Za-z0-9]{{14}}\.{_HEX}{{64}})",
    ),
    _token("notion-token", "ntn_[A-Za-z0-9]{40,}", "secret_[A-Za-z0-9]{43}\\b", before=_APART),
    _token("grafana-token", f"glsa_[A-Za-z0-9]{{32}}_{_HEX}{{8}}", "glc_eyJ[A-Za-z0-9+/=]{40,}"),
    _token("new-relic-key", "NRAK-[A-Z0-9]{27}"),
    _token("posthog-key", f"ph[xs]_{_WORD}{{40,}}"),
    _token("contentful-token", f"CFPAT-{_WORD}{{40,}}"),
    _token("dropbox-token", rf"sl\.(?:[a-z]\.)?{_WORD}{{60,}}", before=_APART),
)

_MONEY_AND_MAIL = (
    _token("stripe-key", "[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    _token("webhook-secret", "whsec_[A-Za-z0-9+/]{24,}={0,2}"),
    _token("square-token", f"sq0(?:atp|csp)-{_WORD}{{22,}}", f"EAAA[lE]{_WORD}{{55,}}"),
    _token("shopify-token", "shp(?:at|ca|pa|ss|tka|ua)_[0-9a-fA-F]{32}"),
    _token("braintree-token", rf"access_token\$production\$[0-9a-z]{{16}}\${_HEX}{{32}}"),
    _token("plaid-token", "access-(?:sandbox|development|production)-[0-9a-f-]{36}"),
    _token("sendgrid-key", rf"SG\.{_WORD}{{16,}}\.{_WORD}{{32,}}", before=_APART),
    _token("mailgun-key", f"key-{_HEX}{{32}}\\b", before=_APART),
    _token("brevo-key", f"x(?:keysib|smtpsib)-{_HEX}{{64}}-[A-Za-z0-9]{{16}}"),
    _token("resend-key", "re_[A-Za-z0-9]{8}_[A-Za-z0-9]{24}", before=_APART),
    _token("twilio-key", f"SK{_HEX}{{32}}\\b", before=_APART),
)

_TALK = (
    _token(
        "slack-token",
        "xox[abceoprs]-[A-Za-z0-9-]{10,}",
        "xapp-[0-9]-[A-Za-z0-9-]{20,}",
        r"xoxe\.xox[bp]-[A-Za-z0-9-]{20,}",
    ),
    _named(
        "slack-webhook",
        r"hooks\.slack\.com\\?/(?:services|workflows|triggers)\\?/",
        r"[A-Za-z0-9/\\]{20,}",
    ),
    _named(
        "discord-webhook",
        r"discord(?:app)?\.com/api/webhooks/",
        f"[0-9]{{15,}}/{_WORD}{{60,}}",
    ),
    _named("teams-webhook", r"webhook\.office\.com/webhookb2/", "[A-Za-z0-9@/-]{80,}"),
    _named("telegram-token", "[0-9]{8}:", f"AA{_WORD}{{33}}"),
)

# A private key in its armour, also one that was cut off, indented, numbered by line, in a diff, or
# a JSON string. Something like a key has to be in it: prose speaks of "BEGIN PRIVATE KEY", too.
_PEM_BEGIN = "-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM_FIRST = "(?:[^-]|-[^-]){0,250}?[A-Za-z0-9+/=]{32,}"
_PEM_MORE = "(?:[^-]{0,24}?-?[A-Za-z0-9+/=]{32,})"
_PEM_END = "(?:[^-]|-[^-]){0,100}?-?-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM_LAST = r"(?:(?:\\[nr]|\s){1,4}[+-]?[A-Za-z0-9+/=]{8,31}\b)?"

# How a private key in its armour begins where it is in base64, as in a kubeconfig.
_PEM_ENCODED = (
    "LS0tLS1CRUdJTi(?:BSU0EgUFJJVkFURSBL|BFQyBQUklWQVRFIEtF|BQUklWQVRFIEtF"
    "|BPUEVOU1NIIFBSSVZBVEUgS0VZ|BFTkNSWVBURUQgUFJJVkFURSBL|BEU0EgUFJJVkFURSBL)"
)

_KEYS = (
    _token("age-key", "AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    _token(
        "1password-key",
        "ops_eyJ[A-Za-z0-9+/=_-]{100,}",
        "A3-[A-Z0-9]{6}-[A-Z0-9]{6}-[A-Z0-9]{5}(?:-[A-Z0-9]{5}){3}",
        "A3-[A-Z0-9]{6}-[A-Z0-9]{11}(?:-[A-Z0-9]{5}){3}",
    ),
    Kind(
        "private-key",
        "PRIVATE KEY",
        # Without a group, which would be looked for in a slower way.
        f"{_PEM_BEGIN}{_PEM_FIRST}{_PEM_MORE}*(?:{_PEM_END}|{_PEM_LAST})",
    ),
    Kind(  # PuTTY's
        "private-key",
        "Private-Lines: ",
        r"Private-Lines: [0-9]{1,3}(?:\\[nr]|[^-\\]){1,24}?"
        f"([A-Za-z0-9+/=]{{32,}}{_PEM_MORE}*{_PEM_LAST})",
    ),
    Kind("private-key", "LS0tLS1CRUdJTi", f"{_PEM_ENCODED}[A-Za-z0-9+/]{{32,}}={{0,2}}"),
    # The private half of a JSON Web Key.
    _named("private-key", r'\\?"d\\?"\s*:\s*\\?"', f"{_WORD}{{40,}}", r'\\?"'),
    _token("jwt", rf"eyJ{_WORD}{{8,}}\.eyJ{_WORD}{{8,}}\.{_WORD}{{8,}}"),
)

# Secrets without a form of their own are known by what stands before them.
_VALUE = "[A-Za-z0-9._~+/=-]"
_IN_URL = r"""\s"'`<>\\\x00"""  # what ends one
_USER = rf":\\?/\\?/(?P<user>[^/?#:@{_IN_URL}]{{0,100}}):"
# One that nobody has encoded may hold what ends the host.
_RAW = f"[^/?#@{_IN_URL}][^@{_IN_URL}]{{0,100}}[/?#][^@{_IN_URL}]{{0,100}}"
_NAMED = (
    Kind(
        "password",
        f"{_USER}[^/?#{_IN_URL}][^{_IN_URL}]{{2}}",
        rf"{_USER}([^/?#{_IN_URL}]{{3,}}|{_RAW})@[A-Za-z0-9\[]",
        doubt.password,
    ),
    _named("bearer-token", "(?i:bearer) ", f"{_VALUE}{{20,}}", doubtful=doubt.word),
    _named(
        "password",
        r"""(?i:authorization)\\?["']?\s?[:=]\s?\\?["']?(?i:basic) """,
        "[A-Za-z0-9+/]{8,}={0,2}",
    ),
    _named(
        "secret",
        "(?:API_?KEY|SECRET_KEY|ACCESS_KEY|SECRET|TOKEN|PASSWORD|PASSWD)[\"']?=[\"']?",
        f"{_VALUE}{{12,}}",
        r"(?:[^A-Za-z0-9_(\[]|$)",
        doubtful=doubt.word,
    ),
)

DEFAULT: tuple[Kind, ...] = (
    *_ASSISTANTS,
    *_CODE,
    *_CLOUDS,
    *_DATA,
    *_MONEY_AND_MAIL,
    *_TALK,
    *_KEYS,
    *_NAMED,
)
"""What is taken for a secret unless it is said otherwise: forms that nothing else has."""
