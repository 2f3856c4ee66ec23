"""plinth keys: who may use the service; plinth open: a browser signed in without a key being typed."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.cli import store_keys
from cluster.cli.output import console, print_facts, print_json, print_table, printable
from cluster.cli.verbs import VERBS, Commands, add_group, add_verb
from cluster.cli.written import write_down
from cluster.core.entry import config_from
from cluster.core.errors import BadInputError, ExitCode, UsageError
from cluster.core.home import Home
from cluster.core.identity import DEFAULT_TENANT, SCOPES, Limits, Principal

if TYPE_CHECKING:
    from actors.ledger.database import Database
    from actors.ledger.key_book import KeyBook
    from actors.ledger.keyring import Key

CREATE_DETAILS = """\
The key is shown once, and only a hash of it is kept: hand it over, or make another one.

  plinth keys create ann --tenant finance --scope chat,search
  plinth keys create prometheus --scope metrics
  plinth keys create bob --tenant legal --group partners --expires 90d
  plinth keys create eve --tenant legal --collections contracts

A tenant is who pays and whose documents are asked; a group is who of them may read what is marked for it. Without
--models and --collections a key may ask all there are. It works within seconds, on every replica, also when the
service was started before."""
ROTATE_DETAILS = """\
The key keeps its id, tenant and books. --overlap keeps the old secret working for a while (10m, 2h, 1d), so that
whoever uses it can change over."""
LIMITS_DETAILS = """\
  plinth keys limits finance --money-per-month 50 --tokens-per-day 2000000
  plinth keys limits finance --none

They hold for all keys of the tenant together, besides each key's own; what is not given falls away. Gateways follow
within about a second."""
OPEN_DETAILS = """\
Prints a link. Who opens it within a quarter of an hour is signed in, once; what stands behind the # never leaves the
browser, and is taken out of the address at once. --key signs in as another key than this machine's own."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def register(commands: Commands) -> None:
    """Declare ``plinth keys`` with its verbs, and ``plinth open``."""
    parser = add_verb(commands, "open", open_page, VERBS["open"].summary, OPEN_DETAILS)
    parser.add_argument("--key", default="local", metavar="NAME", help="whom to sign in as (default: %(default)s)")
    group = add_group(commands, "keys", VERBS["keys"].summary)
    parser = add_verb(group, "create", create, "Make a key, and show it this once.", CREATE_DETAILS)
    parser.add_argument("name", help="what to call it: small letters, digits, '.', '_' and '-'")
    parser.add_argument("--tenant", default=DEFAULT_TENANT, help="whose it is (default: %(default)s)")
    parser.add_argument("--group", default="", metavar="A,B", help="groups inside the tenant")
    parser.add_argument("--scope", default="chat,search,feedback", metavar="A,B",
                        help=f"what it may do, of {', '.join(SCOPES)} (default: %(default)s)")  # fmt: skip
    parser.add_argument("--models", default="", metavar="A,B", help="models it may ask (default: all)")
    parser.add_argument("--collections", default="", metavar="A,B", help="collections it may ask (default: all)")
    parser.add_argument("--expires", default="", metavar="TIME", help="how long it lives: 12h, 90d (default: for good)")
    _add_limits(parser)
    parser.add_argument("--streams", type=int, metavar="N",
                        help="at most so many requests at once (default: trust.streams_per_key)")  # fmt: skip
    parser = add_verb(group, "list", list_keys, "List the keys: whose they are and what they may do.")
    parser.add_argument("--all", action="store_true", help="those revoked and expired too")
    parser = add_verb(group, "rotate", rotate, "Give a key a new secret, shown this once.", ROTATE_DETAILS)
    parser.add_argument("key", help="its name or id (see `plinth keys list`)")
    parser.add_argument("--overlap", default="", metavar="TIME", help="how long the old secret works on (default: not)")
    parser = add_verb(group, "revoke", revoke, "End a key for good, everywhere within seconds.")
    parser.add_argument("key", help="its name or id (see `plinth keys list`)")
    parser = add_verb(group, "usage", usage, "What was used: requests, tokens and money, by day, tenant, key and tier.")
    parser.add_argument("key", nargs="?", default="", help="of one key: its name or id (default: of all)")
    parser.add_argument("--tenant", default="", help="of one tenant")
    parser.add_argument(
        "--since", default="", metavar="DAY", help="first day, 2026-11-29 (default: this month's first)"
    )
    parser.add_argument("--until", default="", metavar="DAY", help="last day (default: today)")
    parser = add_verb(group, "limits", limits, "Show or set what a tenant's keys may use together.", LIMITS_DETAILS)
    parser.add_argument("tenant", nargs="?", default="", help="whose (default: show those of all)")
    _add_limits(parser)
    parser.add_argument("--none", action="store_true", help="take all limits away")
    parser = add_verb(group, "tls", tls, "Make a self-signed certificate, so that others than this machine may come.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--name", action="append", default=[], metavar="HOST",
                      help="a name or address by which others reach this machine; may be repeated")  # fmt: skip
    what.add_argument("--nodes", default="", metavar="FILE",
                      help="instead: the authority with which the nodes of a cluster know each other")  # fmt: skip
    store_keys.register(group)


def usage(args: argparse.Namespace) -> int:
    """Print the books; exit code 0.

    Raises:
        BadInputError: no key has this name or id.
        UsageError: a day is none.
        EnvironmentFaultError: the ledger's database does not answer.
    """
    from actors.ledger.usage import usage_rows

    names = {key.key_id: key.name for key in _book().entries()}
    wanted = next((key_id for key_id, name in names.items() if args.key in (key_id, name)), "")
    if args.key and not wanted:
        raise BadInputError(f"no key is called {args.key!r}; `plinth keys list --all` shows those there are")
    rows = usage_rows(_ledger(args), args.since, args.until, wanted, args.tenant)
    if args.json:
        print_json({"usage": [{**asdict(row), "name": names.get(row.key_id, "")} for row in rows]})
    elif not rows:
        console.print("nothing was used in these days")
    else:
        shown = [
            (row.day, row.tenant, names.get(row.key_id, row.key_id), row.tier, f"{row.requests:,}",
             f"{row.prompt_tokens:,}", f"{row.completion_tokens:,}", f"{row.money:.4f}") for row in rows
        ]  # fmt: skip
        counts = ("requests", "read", "written", "money")
        print_table("Used", ("day", "tenant", "key", "tier", *counts), shown, numeric=counts)
    return ExitCode.DONE


def limits(args: argparse.Namespace) -> int:
    """Print or set tenants' limits; exit code 0.

    Raises:
        UsageError: a limit is below 0, or limits are given for nobody.
        EnvironmentFaultError: the ledger's database does not answer.
    """
    from actors.ledger.ledger import set_tenant_limits, tenant_limits

    database, given = _ledger(args), _limits(args)
    if given != Limits() or args.none:
        if not args.tenant:
            raise UsageError("say whose limits these are: plinth keys limits TENANT ...")
        wanted = Limits() if args.none else given
        set_tenant_limits(database, args.tenant, wanted)
        write_down(args, "limits_set", args.tenant, limits=_given(wanted))
    found = {name: asdict(one) for name, one in tenant_limits(database).items() if args.tenant in ("", name)}
    if args.json:
        print_json({"limits": found})
    elif not found:
        whose = f"for {printable(args.tenant)}" if args.tenant else "for any tenant"
        console.print(f"no limits {whose}", markup=False)
    else:
        fields = list(Limits.__dataclass_fields__)
        rows = [(name, *("-" if one[f] is None else f"{one[f]:,}" for f in fields)) for name, one in found.items()]
        print_table("Limits", ("tenant", *(field.replace("_per_", " / ") for field in fields)), rows)
    return ExitCode.DONE


def _ledger(args: argparse.Namespace) -> Database:
    from actors.ledger.database import Database

    home = Home.from_env()
    return Database.of(home.root, config_from(args, home).trust.ledger.url)


def tls(args: argparse.Namespace) -> int:
    """Make a self-signed certificate, or an authority for nodes, and say where it is; exit code 0.

    Raises:
        UsageError: no name, or one that cannot be a host's; there is an authority already.
    """
    from cluster.node_tls import make_authority
    from cluster.tls import DAYS, make_certificate

    if args.nodes:
        path = make_authority(Path(args.nodes).expanduser())
        if args.json:
            print_json({"authority": str(path)})
        else:
            console.print(
                f"{path} signs the nodes' certificates: keep it as secret as the cluster's token. Every node needs it "
                "as cluster_ca.pem below PLINTH_HOME (file_mounts of ray-cluster.yaml).", soft_wrap=True
            )  # fmt: skip
        return ExitCode.DONE
    path = make_certificate(Home.from_env(), args.name)
    if args.json:
        print_json({"certificate": str(path), "names": args.name, "days": DAYS})
        return ExitCode.DONE
    hosts = json.dumps([*("127.0.0.1", "localhost", "[::1]"), *args.name])
    console.print(f"{path} is good for {DAYS} days. Start with", soft_wrap=True)
    console.print(
        f"  plinth up --set cluster.host=0.0.0.0 --set 'serve.allowed_hosts={hosts}'", soft_wrap=True, markup=False
    )
    console.print("Browsers warn of it until they are told to trust it; a certificate of your own authority is "
                  "cluster.tls_certificate=FILE.", soft_wrap=True)  # fmt: skip
    return ExitCode.DONE


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests-per-minute", type=int, metavar="N", help="at most so many requests a minute")
    parser.add_argument("--tokens-per-minute", type=int, metavar="N", help="at most so many tokens a minute")
    parser.add_argument("--tokens-per-day", type=int, metavar="N", help="at most so many tokens a day (UTC)")
    parser.add_argument("--money-per-month", type=float, metavar="X", help="at most so much, by the tiers' prices")


def create(args: argparse.Namespace) -> int:
    """Print the new key; exit code 0.

    Raises:
        UsageError: a name, scope or time that cannot be one, or the name is taken.
    """
    principal = Principal(
        "", args.tenant, frozenset(_words(args.group)), frozenset(_words(args.scope)), tuple(_words(args.models)),
        tuple(_words(args.collections)), _limits(args), args.streams,
    )  # fmt: skip
    text, key = _book().create(args.name, principal, _seconds(args.expires, "--expires"))
    _write_down(args, "key_created", key)
    _warn_of_unknown(args, principal.collections)
    return _show_once(args, text, key)


def _warn_of_unknown(args: argparse.Namespace, collections: Sequence[str]) -> None:
    """Say on stderr which collections are not there: they may still be built, or the name is mistyped."""
    from cluster.core.errors import PlinthError
    from cluster.core.storage import Collections, Store

    home = Home.from_env()
    try:
        known = Collections(Store(home.store_uri), config_from(args, home).index.name).names
    except (PlinthError, OSError):
        return  # a key can be made where no store is in reach
    for name in collections:
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "there are none yet"
            print(f"plinth: there is no collection {name!r} now; {there}", file=sys.stderr)


def list_keys(args: argparse.Namespace) -> int:
    """Print the keys; exit code 0."""
    now = time.time()
    found = [key for key in _book().entries() if args.all or key.state(now) == "active"]
    if args.json:
        print_json({"keys": [key.to_json(now) for key in found]})
    elif not found:
        console.print("no keys yet: `plinth up` makes one for this machine, `plinth keys create NAME` one for others")
    else:
        rows = [
            (key.name, key.key_id, key.principal.tenant, ", ".join(sorted(key.principal.groups)),
             _scopes(key), _may_ask(key), _day(key.expires_at), key.state(now), _at_most(key)) for key in found
        ]  # fmt: skip
        names = ("name", "id", "tenant", "groups", "scopes", "may ask", "expires (UTC)", "state", "limits")
        # Few keys have groups or limits of their own: a column that is empty for all takes room from the others.
        shown = [place for place in range(len(names)) if any(row[place] for row in rows)]
        print_table("Keys", [names[place] for place in shown], [[row[place] for place in shown] for row in rows])
    return ExitCode.DONE


def rotate(args: argparse.Namespace) -> int:
    """Print the key's new text; exit code 0.

    Raises:
        BadInputError: no active key has this name or id.
        UsageError: ``--overlap`` is no time.
    """
    from actors.ledger.key_book import LOCAL_NAME
    from cluster.core.home import write_private

    text, key = _book().rotate(args.key, _seconds(args.overlap, "--overlap") or 0.0)
    if key.name == LOCAL_NAME:
        write_private(Home.from_env().api_key_path, text + "\n")
    _write_down(args, "key_rotated", key)
    return _show_once(args, text, key)


def revoke(args: argparse.Namespace) -> int:
    """End a key; exit code 0.

    Raises:
        BadInputError: no active key has this name or id.
    """
    key = _book().revoke(args.key)
    _write_down(args, "key_revoked", key)
    if args.json:
        print_json({"revoked": key.key_id, "name": key.name})
    else:
        console.print(f"revoked {printable(key.name)} ({key.key_id}); it ends everywhere within seconds")
    return ExitCode.DONE


def open_page(args: argparse.Namespace) -> int:
    """Print the link; exit code 0.

    Raises:
        EnvironmentFaultError: nothing runs.
        BadInputError: no active key has this name or id.
    """
    from cluster.local_head import require_running

    url = require_running(Home.from_env()).base_url
    link = sign_in_link(args, url, args.key)
    if args.json:
        print_json({"link": link})
    else:
        print(link)
    return ExitCode.DONE


def sign_in_link(args: argparse.Namespace, base_url: str, key: str = "local") -> str:
    """The page's address, with a code that signs one browser in as this key; the bare one where keys are off."""
    home = Home.from_env()
    config = config_from(args, home)
    if not config.trust.keys:
        return f"{base_url}/"
    return f"{base_url}/#once={_book().link(key)}"


def _book() -> KeyBook:
    from actors.ledger.key_book import KeyBook

    return KeyBook.of(Home.from_env())


def _write_down(args: argparse.Namespace, action: str, key: Key) -> None:
    """What was done to a key, in the audit log; the key itself is not in it."""
    who = key.principal
    narrowed = {"models": list(who.models), "collections": list(who.collections), "limits": _given(who.limits),
                "streams": who.streams}  # fmt: skip
    write_down(
        args, action, who.tenant, key_id=key.key_id, name=key.name, groups=sorted(who.groups),
        scopes=sorted(who.scopes), **{name: value for name, value in narrowed.items() if value},
    )  # fmt: skip


def _show_once(args: argparse.Namespace, text: str, key: Key) -> int:
    if args.json:
        print_json({"key": text, **key.to_json(time.time())})
        return ExitCode.DONE
    groups, limits = ", ".join(sorted(key.principal.groups)), _at_most(key)
    old = f"works on until {_day(key.old_until)} UTC" if key.old_digest and key.old_until > time.time() else ""
    facts = [
        ("key", text), ("name", printable(key.name)), ("tenant", key.principal.tenant), ("groups", groups),
        ("scopes", _scopes(key)), ("may ask", _may_ask(key)), ("limits", limits), ("expires", _day(key.expires_at)),
        ("old secret", old),
    ]  # fmt: skip
    print_facts([(name, value) for name, value in facts if value])
    console.print("It is shown this once. Clients send it as their API key.")
    return ExitCode.DONE


def _words(text: str) -> list[str]:
    return [word for word in (one.strip() for one in text.split(",")) if word]


def _seconds(text: str, option: str) -> float | None:
    """``90d`` in seconds; None for nothing.

    Raises:
        UsageError: it is no time.
    """
    if not text:
        return None
    if (found := re.fullmatch(r"(\d{1,6})([smhd])", text.strip())) is None:
        raise UsageError(f"{option} {text}: write a number and s, m, h or d, as 90d")
    return float(int(found[1]) * _UNITS[found[2]])


def _limits(args: argparse.Namespace) -> Limits:
    given: dict[str, Any] = {name: getattr(args, name) for name in Limits.__dataclass_fields__}
    if wrong := next((name for name, value in given.items() if value is not None and not value >= 0), ""):
        raise UsageError(f"--{wrong.replace('_', '-')} {given[wrong]}: give 0 or more")
    return Limits(**given)


def _scopes(key: Key) -> str:
    return "all" if key.principal.scopes >= set(SCOPES) else ", ".join(sorted(key.principal.scopes))


def _may_ask(key: Key) -> str:
    asked = (*key.principal.models, *(f"@{name}" for name in key.principal.collections))
    return printable(", ".join(asked)) or "everything"


def _given(limits: Limits) -> dict[str, float]:
    return {name: value for name, value in asdict(limits).items() if value is not None}


def _at_most(key: Key) -> str:
    """Its own limits, as ``200,000 tokens / day``; empty where it has none."""
    who = key.principal
    said = [f"{value:,} {name.replace('_per_', ' / ')}" for name, value in _given(who.limits).items()]
    return ", ".join([*said, *([f"{who.streams:,} at once"] if who.streams is not None else [])])


def _day(at: float | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
