"""What can be set of every sink that speaks HTTP, and what follows from it for TLS."""

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import certifi
from pydantic import AnyUrl, BaseModel, Field, PositiveFloat, SecretStr

from bus import SinkSettings


class HttpSettings(SinkSettings):
    """Settings of a sink that speaks HTTP; times in seconds. Proxies come from the environment."""

    timeout: PositiveFloat = Field(
        60.0,
        description="seconds for a request with its whole answer; for an upload, without progress",
    )
    connect_timeout: PositiveFloat = Field(
        10.0, description="seconds to find and reach the server, and as many again for TLS"
    )
    read_timeout: PositiveFloat = Field(30.0, description="seconds without a byte of the answer")
    write_timeout: PositiveFloat = Field(
        30.0, description="seconds in which the server takes 256 kB of a request"
    )
    verify: bool | Path = Field(
        True,
        description="whether to check certificates, or a file of authorities to trust",
    )
    client_cert: Path | None = Field(
        None, description="a certificate of one's own, with its key unless client_key names one"
    )
    client_key: Path | None = Field(None, description="the key of client_cert")
    client_key_password: SecretStr | None = Field(None, description="what that key is locked with")


def tls_context(settings: HttpSettings) -> ssl.SSLContext:
    """The TLS context that these settings ask for; reads files.

    By default the system's authorities are trusted together with Mozilla's; SSL_CERT_FILE and
    SSL_CERT_DIR replace both.

    Raises:
        OSError: A file cannot be read, or holds no certificate or key.
    """
    if isinstance(settings.verify, Path):
        context = ssl.create_default_context(cafile=settings.verify)
    else:
        context = ssl.create_default_context()
        if settings.verify and not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & os.environ.keys():
            context.load_verify_locations(certifi.where())
    if settings.verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.client_cert is not None:
        locked = settings.client_key_password
        context.load_cert_chain(
            settings.client_cert,
            settings.client_key,
            # Without one OpenSSL would ask on the terminal for the password of a locked key.
            password="" if locked is None else locked.get_secret_value(),
        )
    return context


def addresses_in(settings: BaseModel) -> Iterator[str]:
    """Every http and https address among the fields of settings, secret ones included."""
    for name in type(settings).model_fields:
        value: object = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if isinstance(value, (str, AnyUrl)) and str(value).startswith(("http://", "https://")):
            yield str(value)
