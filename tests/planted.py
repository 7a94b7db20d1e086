"""Invented secrets of every kind, made when they are wanted: no scanner takes this file for a leak.

A form is written in pieces, `|` between them; `{alphabet:length}` stands for random characters.
The forms follow what the issuers say of their tokens, and not the expressions that find them.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass

_UPPER, _LOWER, _DIGITS = string.ascii_uppercase, string.ascii_lowercase, string.digits
_ALPHABETS = {
    "a": _UPPER + _LOWER + _DIGITS,
    "u": _UPPER + _DIGITS,
    "l": _LOWER + _DIGITS,
    "w": _UPPER + _LOWER + _DIGITS + "_-",
    "b": _UPPER + _LOWER + _DIGITS + "+/",
    "x": _DIGITS + "abcdef",
    "d": _DIGITS,
    "X": _DIGITS + "ABCDEF",
}

# kind: forms. What is in <angle brackets> is context that stays.
_FORMS = {
    "anthropic-key": [
        "sk-|ant-|api03-|{w:93}AA",
        "sk-|ant-|admin01-|{w:93}AA",
        "sk-|ant-|oat01-|{w:93}AA",
    ],
    "openrouter-key": ["sk-|or-|v1-|{x:64}"],
    "openai-key": ["sk-|proj-|{w:74}T3Blbk|FJ{w:74}", "sk-|svcacct-|{w:60}", "sk-|admin-|{w:60}"],
    "api-key": ["sk-|{a:48}", "sk-|{x:32}"],
    "langfuse-key": ["sk-|lf-|{x:8}-{x:4}-{x:4}-{x:4}-{x:12}"],
    "groq-key": ["gs|k_|{a:52}"],
    "xai-key": ["xa|i-|{a:80}"],
    "perplexity-key": ["pp|lx-|{a:48}"],
    "replicate-token": ["r8|_|{a:37}"],
    "hugging-face-token": ["h|f_|{a:34}", "api_|org_|{a:34}"],
    "cerebras-key": ["cs|k-|{l:48}"],
    "fireworks-key": ["fw|_|{a:24}"],
    "together-key": ["tgp_|v1_|{w:43}"],
    "nvidia-key": ["nv|api-|{w:64}"],
    "pinecone-key": ["pc|sk_|{a:5}_{a:63}"],
    "langsmith-key": ["lsv2_|pt_|{x:32}_{x:10}"],
    "tavily-key": ["tv|ly-|dev-{a:32}"],
    "jina-key": ["ji|na_|{x:32}{a:28}"],
    "e2b-key": ["e2|b_|{x:40}"],
    "github-token": ["gh|p_|{a:36}", "gh|o_|{a:36}", "gh|s_|{a:36}", "github_|pat_|{a:22}_{a:59}"],
    "gitlab-token": [
        "gl|pat-|{w:20}",
        "gl|pat-|{w:27}.{l:2}.{l:9}",
        "gl|rt-|{w:20}",
        "gl|ptt-|{x:40}",
    ],
    "bitbucket-token": ["AT|BB|{a:24}{X:8}"],
    "atlassian-token": ["AT|ATT3|xFfGF0{w:178}={X:8}"],
    "linear-key": ["lin_|api_|{a:40}", "lin_|oauth_|{x:64}"],
    "npm-token": [
        "np|m_|{a:36}",
        "<//npm.example.com/:_authToken=>{x:8}-{x:4}-{x:4}-{x:4}-{x:12}",
        "<//npm.example.com/:_password=>{a:22}==",
    ],
    "pypi-token": ["py|pi-|AgEIcHlwaS5vcmc{w:150}"],
    "rubygems-key": ["ruby|gems_|{x:48}"],
    "crates-io-token": ["ci|o|{a:32}"],
    "nuget-key": ["oy|2|{l:43}"],
    "clojars-token": ["CLO|JARS_|{l:60}"],
    "docker-token": ["dckr_|pat_|{w:27}", "dckr_|oat_|{w:32}"],
    "jfrog-key": ["AK|Cp|{a:69}"],
    "sonar-token": ["sq|p_|{x:40}", "sq|u_|{x:40}"],
    "sentry-token": ["sntr|ys_|eyJ{b:120}=_{b:43}", "sntr|yu_|{x:64}"],
    "postman-key": ["PM|AK-|{x:24}-{x:34}"],
    "figma-token": ["fi|gd_|{w:40}"],
    "circleci-token": ["CCI|PAT_|{a:22}_{x:40}"],
    "aws-key-id": ["AK|IA|{u:16}", "AS|IA|{u:16}"],
    "aws-key": ["AK|IA|{u:16}<,>{b:40}"],
    "aws-secret": [
        "<aws_secret_access_key = >{b:40}",
        '<"SecretAccessKey": ">{b:40}<">',
        "<export AWS_SECRET_ACCESS_KEY=>{b:40}",
    ],
    "aws-session-token": ['<"SessionToken": ">IQoJb3JpZ2lu{b:300}==<">'],
    "bedrock-key": ["AB|SK|{b:128}==", "bedrock-|api-key-|{b:120}"],
    "google-key": ["AI|za|{w:35}"],
    "google-oauth": ["GO|CSPX-|{w:28}", "ya|29.|a0{w:150}", "1/|/0|{w:60}"],
    "azure-key": [
        "<DefaultEndpointsProtocol=https;AccountName=x;AccountKey=>{b:86}==<;EndpointSuffix=x>",
        "<SharedAccessKeyName=Root;SharedAccessKey=>{b:43}=",
    ],
    "azure-signature": ["<https://x.blob.core.windows.net/c?sv=2024-11-04&sig=>{b:43}="],
    "azure-client-secret": ["<{a:3}>8Q|~|{w:34}"],
    "digitalocean-token": ["dop_|v1_|{x:64}", "doo_|v1_|{x:64}"],
    "cloudflare-token": ["cf|ut_|{a:48}", "v1|.0-|{x:24}-{x:146}"],
    "vercel-token": ["vc|p_|{a:56}", "vercel_|blob_rw_|{a:16}_{a:30}"],
    "netlify-token": ["nf|p_|{a:36}"],
    "fly-token": ["fo|1_|{w:43}", "fm|2_|lJPECA{b:200}"],
    "heroku-key": ["HR|KU-|{w:60}"],
    "render-key": ["rn|d_|{a:28}"],
    "terraform-token": ["<{a:14}.atla|sv1.>{w:67}"],
    "vault-token": ["hv|s.|{w:24}", "hv|b.|{w:138}"],
    "pulumi-token": ["pu|l-|{x:40}"],
    "doppler-token": ["dp.|pt.|{a:43}", "dp.|st.|dev.{a:43}"],
    "tailscale-key": ["ts|key-|auth-{a:12}CNTRL-{a:32}"],
    "supabase-key": ["sb_|secret_|{w:31}"],
    "supabase-token": ["sb|p_|{x:40}"],
    "planetscale-token": ["pscale_|tkn_|{w:43}", "pscale_|pw_|{w:43}"],
    "neon-key": ["na|pi_|{l:64}"],
    "databricks-token": ["da|pi|{x:32}", "da|pi|{x:32}-2"],
    "airtable-token": ["pa|t|{a:14}.{x:64}"],
    "notion-token": ["nt|n_|{d:11}{a:35}", "sec|ret_|{a:43}"],
    "grafana-token": ["gl|sa_|{a:32}_{x:8}", "gl|c_eyJ|{b:100}="],
    "new-relic-key": ["NR|AK-|{u:27}"],
    "posthog-key": ["ph|x_|{a:43}"],
    "contentful-token": ["CF|PAT-|{w:43}"],
    "dropbox-token": ["s|l.|u.{w:130}", "s|l.|B{w:135}"],
    "stripe-key": ["sk|_live_|{a:24}", "rk|_live_|{a:99}", "sk|_test_|{a:24}"],
    "webhook-secret": ["wh|sec_|{a:32}", "wh|sec_|{b:43}="],
    "square-token": ["sq|0atp-|{w:22}", "sq|0csp-|{w:43}", "EA|AAl|{w:59}"],
    "shopify-token": ["sh|pat_|{x:32}", "sh|pss_|{x:32}"],
    "braintree-token": ["access_|token$production$|{l:16}${x:32}"],
    "plaid-token": ["access-|production-|{x:8}-{x:4}-{x:4}-{x:4}-{x:12}"],
    "sendgrid-key": ["S|G.|{w:22}.{w:43}"],
    "mailgun-key": ["ke|y-|{x:32}"],
    "brevo-key": ["xkey|sib-|{x:64}-{a:16}"],
    "resend-key": ["r|e_|{a:8}_{a:24}"],
    "twilio-key": ["S|K|{x:32}"],
    "slack-token": [
        "xo|xb-|{d:12}-{d:12}-{a:24}",
        "xo|xp-|{d:12}-{d:12}-{d:12}-{x:32}",
        "xa|pp-|1-A{u:10}-{d:13}-{x:64}",
    ],
    "slack-webhook": ["<https://hooks.slack.com/services/>T{u:8}/B{u:10}/{a:24}"],
    "discord-webhook": ["<https://discord.com/api/webhooks/>{d:19}/{w:68}"],
    "teams-webhook": [
        "<https://x.webhook.office.com/webhookb2/>{x:8}-{x:4}-{x:4}-{x:4}-{x:12}@{x:8}-{x:4}-{x:4}"
        "-{x:4}-{x:12}/IncomingWebhook/{x:32}/{x:8}-{x:4}-{x:4}-{x:4}-{x:12}"
    ],
    "telegram-token": ["<{d:10}:>A|A|{w:33}"],
    "age-key": ["AGE-|SECRET-KEY-1|{u:58}"],
    "1password-key": ["op|s_eyJ|{b:300}", "A|3-|{u:6}-{u:11}-{u:5}-{u:5}-{u:5}"],
    "private-key": [
        "-----BEGIN RSA |PRIVATE KEY-----|\n{b:64}\n{b:64}\n{b:40}==\n"
        "-----END RSA |PRIVATE KEY-----",
        "-----BEGIN |PRIVATE KEY-----|\\n{b:64}\\n{b:64}\\n{b:22}==\\n-----END |PRIVATE KEY-----",
        "-----BEGIN OPENSSH |PRIVATE KEY-----|\n{b:70}\n{b:70}",
        "-----BEGIN EC |PRIVATE KEY-----|\n    2→{b:64}\n    3→{b:64}\n    4→{b:8}"
        "\n    5→-----END EC |PRIVATE KEY-----",
        "-----BEGIN RSA |PRIVATE KEY-----|\nProc-Type: 4,ENCRYPTED\n"
        "DEK-Info: AES-128-CBC,{X:32}\n\n{b:64}\n{b:64}\n-----END RSA |PRIVATE KEY-----",
        "-----BEGIN PGP |PRIVATE KEY BLOCK-----|\nVersion: GnuPG v2\n\n{b:64}\n{b:64}\n={b:4}\n"
        "-----END PGP |PRIVATE KEY BLOCK-----",
        "-----BEGIN RSA |PRIVATE KEY-----|\n-{b:64}\n-{b:64}\n-{b:22}==\n"
        "------END RSA |PRIVATE KEY-----",
        "<PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\nComment: x\nPublic-Lines: 1\n{b:60}\n"
        "Private-Lines: 3\n>{b:64}\n{b:64}\n{b:20}<\nPrivate-MAC: {x:64}>",
        '<"Private-Lines: 1\\r\\n>{b:48}<\\r\\nPrivate-MAC: {x:64}">',
        "<Private-Lines: 2\n    7→>{b:64}\n    8→{b:32}<\n    9→Private-MAC: {x:64}>",
        "LS0tLS1C|RUdJTiBSU0EgUFJJVkFURSBL|{b:300}=",
        "LS0tLS1C|RUdJTiBQUklWQVRFIEtF|{b:300}",
        '<"d": ">{w:43}<">',
        '<\\"d\\":\\">{w:43}<\\">',
    ],
    "jwt": ["ey|J|hbGciOiJIUzI1NiJ9.eyJ{w:80}.{w:43}", "ey|J|hbGciOiJFUzI1NiJ9.eyJ{w:300}.{w:86}"],
    "password": [
        "<postgres://user:>{w:14}<@db.example.com:5432/app>",
        "<postgresql://postgres.ref:>{w:20}<@aws-0-eu.pooler.supabase.com:6543/postgres>",
        "<mongodb+srv://admin:>{w:12}<@cluster0.mongodb.net>",
        "<redis://:>{w:12}<@cache:6379/0>",
        "<https://user:>{w:12}<@registry.example.com>",
        "<mysql://root:>{a:6}@{a:6}<@db.example.com/app>",
        "<mysql:\\/\\/root:>{a:12}<@db.example.com\\/app>",
        "<postgres://app:>{a:5}/{a:5}#{a:5}<@db.example.com/app>",
        "<redis://:>{a:4}?{a:9}<@[::1]:6379/0>",
        "<Authorization: Basic >{b:32}",
    ],
    "bearer-token": ["<Authorization: Bearer >{a:40}", '<"authorization": "bearer >{w:64}<">'],
    "secret": [
        "<export STRIPE_API_KEY=>{a:24}",
        "<DB_PASSWORD='>{a:16}7<'>",
        '<AUTH_TOKEN=">{a:20}3<">',
    ],
}


@dataclass(frozen=True, slots=True)
class Planted:
    """A secret of a kind in its context: `text` before and behind, `secrets` what must go."""

    kind: str
    text: str
    redacted: str
    secrets: tuple[str, ...]


def planted(seed: int, each: int = 1) -> Iterator[Planted]:
    """Yield secrets of every form, `each` of them different ones."""
    chance = random.Random(seed)
    for kind, forms in _FORMS.items():
        for form in forms:
            for _ in range(each):
                yield _plant(chance, kind, form)


def _plant(chance: random.Random, kind: str, form: str) -> Planted:
    pieces = [_filled(chance, piece) for piece in re.split(r"<([^<>]*)>", form)]
    secrets = pieces[::2]
    left = [f"[redacted:{kind}]" if n % 2 == 0 and p else p for n, p in enumerate(pieces)]
    return Planted(kind, "".join(pieces), "".join(left), tuple(filter(None, secrets)))


def _filled(chance: random.Random, form: str) -> str:
    joined = "".join(form.split("|"))
    return re.sub(r"\{(\w):(\d+)\}", lambda hole: _random(chance, hole[1], int(hole[2])), joined)


def _random(chance: random.Random, alphabet: str, length: int) -> str:
    """Return random characters, a digit and a letter among them: rules may ask for both."""
    letters = _ALPHABETS[alphabet]
    middle = [chance.choice(letters) for _ in range(length)]
    if length >= 4 and alphabet != "d":
        middle[1], middle[2] = (
            chance.choice(_DIGITS),
            chance.choice([c for c in letters if c.isalpha()]),
        )
    # At the ends a letter or digit: what ends with a sign might be read as punctuation.
    middle[0], middle[-1] = (chance.choice([c for c in letters if c.isalnum()]) for _ in range(2))
    return "".join(middle)
