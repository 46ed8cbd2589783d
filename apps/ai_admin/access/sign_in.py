"""People whom the organisation's identity provider vouches for: from its token to their user."""

from collections.abc import Callable
from datetime import datetime, timezone

from ai_admin.access import identities
from ai_admin.access.actors import Actor
from ai_admin.access.identity import Identity, IdentityProvider, ProviderUnavailable, TokenInvalid
from ai_admin.config import ConfigSettings
from ai_admin.database import Database, Row
from ai_admin.errors import IdentityProviderUnavailable, Unauthenticated


class SignIn:
    """The provider of the settings, and the users whom its tokens stand for."""

    def __init__(self, database: Database, config: ConfigSettings) -> None:
        self._database = database
        parties = frozenset(config.oidc_authorized_parties.split())
        self._of_api = IdentityProvider(
            config.oidc_issuer, config.oidc_audience, config.oidc_jwks_url, authorized_parties=parties
        )
        # An ID token is for the client that asked for it, and for nobody else.
        self._of_console = config.oidc_client_id and IdentityProvider(
            config.oidc_issuer, config.oidc_client_id, config.oidc_jwks_url
        )

    def find(self, token: str, nonce: str | None, who: Callable[[], Actor]) -> Row:
        """The user behind a JWT, as the row of a key that has no limits and ends with the token.

        A token with a nonce is an ID token of the console's sign-in, and any other one for the API. A subject that is
        new here is bound by its verified email, if it can be; `who` asked for it, or the user themselves where that
        is nobody. Raises `Unauthenticated`, `IdentityProviderUnavailable`, `DatabaseUnavailable`.
        """
        identity = self._verified(token, nonce)
        with self._database.connection() as connection:
            user = identities.find(connection, identity.issuer, identity.subject)
        if user is None and identity.email is not None:
            user = self._bound_by_email(identity, identity.email, who())
        if user is None:
            raise Unauthenticated("subject of no user")
        expires_at = datetime.fromtimestamp(identity.expires_at, timezone.utc)
        limits = {"key_id": None, "scopes": None, "key_models": None, "expires_at": expires_at}
        return {**user, **limits, "identity": (identity.issuer, identity.subject)}

    def _verified(self, token: str, nonce: str | None) -> Identity:
        provider = self._of_api if nonce is None else self._of_console
        if not provider:
            raise Unauthenticated("no sign-in with a provider")
        try:
            return provider.verify(token, nonce)
        except TokenInvalid as error:
            raise Unauthenticated(f"token: {error}") from error
        except ProviderUnavailable as error:
            raise IdentityProviderUnavailable from error

    def _bound_by_email(self, identity: Identity, email: str, by: Actor) -> Row | None:
        with self._database.transaction() as connection:
            identities.bind_by_email(connection, by, identity.issuer, identity.subject, email)
            # Also where another request was faster.
            return identities.find(connection, identity.issuer, identity.subject)
