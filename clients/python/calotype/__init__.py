"""Delivery URLs of Calotype: put together, and signed where there is a key. Nothing is asked of a server."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Union
from urllib.parse import quote

__all__ = ["Delivery", "Origin", "SigningKey", "Url", "path", "srcset", "unsigned_url", "url"]


@dataclass(frozen=True)
class Origin:
    """A path in a named origin."""

    name: str
    path: str


@dataclass(frozen=True)
class Url:
    """A whole URL that the tenant allows."""

    url: str


@dataclass(frozen=True)
class Delivery:
    """Where pictures are delivered, and whose. On a host of the tenant's own there is no tenant."""

    base: str
    tenant: str | None = None


@dataclass(frozen=True)
class SigningKey:
    """What signs: only for servers, a browser must never have it."""

    tenant_id: str
    kid: str
    secret: str

    def __repr__(self) -> str:
        return f"SigningKey(tenant_id={self.tenant_id!r}, kid={self.kid!r}, secret=…)"


#: A public id, a path in an origin, or a whole URL.
Source = Union[str, Origin, Url]

#: Ops by their names; those that are None are left out. "-" is the original.
Ops = Union[Mapping[str, object], str]


def path(source: Source, ops: Ops = {"f": "auto"}) -> str:  # noqa: B006 - it is never changed
    """`/{ops}/{source}`: what a signature is made over."""
    if isinstance(ops, str):
        if ops != "-":
            raise ValueError('ops are a mapping, or "-"')
        written = ops
    else:
        given = ((name, value) for name, value in ops.items() if value is not None)
        written = ",".join(f"{name}={_text(value)}" for name, value in given) or "f=auto"
    return f"/{written}/{_source(source)}"


def unsigned_url(delivery: Delivery, source: Source, ops: Ops = {"f": "auto"}) -> str:  # noqa: B006
    """A URL without a signature, for ops that the tenant's policy lets everybody use."""
    tenant = "" if delivery.tenant is None else f"/{delivery.tenant}"
    return delivery.base.rstrip("/") + tenant + path(source, ops)


def url(
    delivery: Delivery,
    key: SigningKey,
    source: Source,
    ops: Ops = {"f": "auto"},  # noqa: B006
    expires: float | None = None,
) -> str:
    """A signed URL. `expires` is the time from which on it is refused, in Unix seconds."""
    exp = "" if expires is None else str(int(expires))
    message = "\n".join(["calotype-v1", key.tenant_id, path(source, ops), exp, key.kid])
    digest = hmac.digest(key.secret.encode(), message.encode(), "sha256")
    signature = urlsafe_b64encode(digest).rstrip(b"=").decode()
    query = f"{f'exp={exp}&' if exp else ''}kid={key.kid}&sig={signature}"
    return f"{unsigned_url(delivery, source, ops)}?{query}"


def srcset(
    delivery: Delivery,
    key: SigningKey | None,
    source: Source,
    widths: Iterable[int],
    ops: Mapping[str, object] = {"f": "auto"},  # noqa: B006
    expires: float | None = None,
) -> str:
    """The `srcset` of an `<img>`: the same picture in several widths, each signed if there is a key."""

    def candidate(width: int) -> str:
        sized = {**ops, "w": width}
        made = url(delivery, key, source, sized, expires) if key else unsigned_url(delivery, source, sized)
        return f"{made} {width}w"

    return ", ".join(candidate(width) for width in widths)


def _text(value: object) -> str:
    return quote(str(value).lower() if isinstance(value, bool) else str(value), safe="")


def _source(source: Source) -> str:
    if isinstance(source, Url):
        return quote(source.url, safe="")
    if isinstance(source, Origin):
        return f"@{source.name}/{quote(source.path, safe='/')}"
    return quote(source, safe="/")
