"""Headers that say who asks."""

from base64 import b64encode

from pydantic import SecretStr


def secret(value: SecretStr | None) -> str:
    """What a setting holds; "" where there is none."""
    return "" if value is None else value.get_secret_value()


def basic(user: str, password: str) -> dict[str, str]:
    """Basic authentication (RFC 7617)."""
    return {"authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def bearer(token: str) -> dict[str, str]:
    """A bearer token (RFC 6750); no header without one."""
    return {"authorization": f"Bearer {token}"} if token else {}
