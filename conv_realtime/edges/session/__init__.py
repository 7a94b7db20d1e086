"""The user who has signed in on this machine, kept in the state directory.

* `kept`: the file with the tokens, for this account's eyes only
* `auth_server`: Supabase's auth server, every foreign error mapped
* `signed_in`: a token that is always fresh, renewed by one process at a time
"""

from __future__ import annotations

from conv_realtime.edges.session.auth_server import AuthServer
from conv_realtime.edges.session.kept import Kept, forget_session, keep_session, read_session
from conv_realtime.edges.session.signed_in import SignedIn, signed_in

__all__ = [
    "AuthServer",
    "Kept",
    "SignedIn",
    "forget_session",
    "keep_session",
    "read_session",
    "signed_in",
]
