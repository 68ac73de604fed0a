//! What is said to a server, and the trait of those who say it.
//!
//! A [`Credentials`] is code of the program: it is asked with no lock held, on a thread that a slow
//! one may keep (see `core/asking.rs`). A [`Login`] never shows what it holds.

use std::error::Error as StdError;
use std::fmt;

use data_encoding::BASE64URL_NOPAD;

use super::secret::Secret;
use crate::error::{Error, ErrorKind, Result};

/// Says who the program is, each time a server wants to know: for credentials that change, that
/// come from elsewhere, or whose key is never handed out.
///
/// It is asked at every attempt to connect, so what it says may change from one to the next. It may
/// sign with a key that stays where it is, in an agent or a hardware module: the
/// [`Challenge`] has what is to be signed, and the [`Login`] takes the signature. Closures
/// implement it.
///
/// # Blocking
///
/// It runs on a short-lived thread of the connection (`nats-N-creds`) with no lock held, may block
/// and may call anything. The attempt waits for it until the
/// [connect time-out](crate::OptionsBuilder::connect_timeout) and then fails; the call itself
/// cannot be stopped. There is never more than one for a connection: while a call of an earlier
/// attempt still runs, a later attempt waits for its end before it asks again. `close` waits for it
/// no longer than the close time-out.
///
/// The connection keeps it until it is itself dropped. One that needs its own connection keeps a
/// [`WeakConnection`](crate::WeakConnection), which holds nothing open.
///
/// # Errors
///
/// An error, or a panic, is a failed attempt, told as any other:
/// [`Credentials`](ErrorKind::Credentials) with the error's text, so that must hold no secret.
///
/// ```
/// use nats_blocking::{Challenge, Credentials, Login, Options};
///
/// /// Keeps its key to itself.
/// struct Agent;
///
/// impl Agent {
///     fn public_nkey(&self) -> String {
///         // …
/// #       String::new()
///     }
///
///     fn sign(&self, nonce: &[u8]) -> std::io::Result<Vec<u8>> {
///         // …
/// #       Ok(nonce.to_vec())
///     }
/// }
///
/// impl Credentials for Agent {
///     fn login(
///         &self,
///         challenge: &Challenge,
///     ) -> Result<Login, Box<dyn std::error::Error + Send + Sync>> {
///         let signature = self.sign(challenge.nonce()?)?;
///         Ok(Login::new().nkey(self.public_nkey(), signature))
///     }
/// }
///
/// let options = Options::builder().credentials_source(Agent).build()?;
/// # Ok::<(), nats_blocking::Error>(())
/// ```
pub trait Credentials: Send + Sync + 'static {
    /// What to say to that server now.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from an answer: the attempt fails with it as the cause.
    fn login(
        &self,
        challenge: &Challenge,
    ) -> std::result::Result<Login, Box<dyn StdError + Send + Sync>>;
}

impl<F> Credentials for F
where
    F: Fn(&Challenge) -> std::result::Result<Login, Box<dyn StdError + Send + Sync>>
        + Send
        + Sync
        + 'static,
{
    fn login(
        &self,
        challenge: &Challenge,
    ) -> std::result::Result<Login, Box<dyn StdError + Send + Sync>> {
        self(challenge)
    }
}

/// The server that asks, and what it wants signed.
#[derive(Clone)]
pub struct Challenge {
    server: String,
    nonce: Option<Secret>,
    auth_required: bool,
}

impl Challenge {
    pub(crate) fn new(server: String, nonce: Option<&str>, auth_required: bool) -> Self {
        let nonce = nonce.filter(|nonce| !nonce.is_empty()).map(Secret::new);
        Self { server, nonce, auth_required }
    }

    /// The URL of the server, without user information.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The bytes that the server wants signed with Ed25519.
    ///
    /// # Errors
    ///
    /// [`Credentials`](ErrorKind::Credentials) if the server sent none: it does not know nkeys or
    /// JWTs, and there is nothing to sign.
    pub fn nonce(&self) -> Result<&[u8]> {
        self.nonce.as_ref().map(|nonce| nonce.reveal().as_bytes()).ok_or_else(|| {
            let text = format!("{} sent no nonce, so there is nothing to sign", self.server);
            Error::new(ErrorKind::Credentials, text)
        })
    }

    /// Whether the server says that it takes nobody without credentials.
    pub fn auth_required(&self) -> bool {
        self.auth_required
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge")
            .field("server", &self.server)
            .field("has_nonce", &self.nonce.is_some())
            .field("auth_required", &self.auth_required)
            .finish()
    }
}

/// What is said to a server about who we are. `Debug` shows which parts there are, not what is in
/// them.
///
/// The parts add up; setting one again replaces it.
#[derive(Clone, Default, PartialEq, Eq)]
#[must_use = "a login is for the server that asked"]
pub struct Login {
    user: Option<(Secret, Secret)>,
    token: Option<Secret>,
    nkey: Option<String>,
    jwt: Option<Secret>,
    signature: Option<Vec<u8>>,
}

impl Login {
    /// Says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A user with a password.
    pub fn user_and_password(
        mut self,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        self.user = Some((Secret::new(user), Secret::new(password)));
        self
    }

    /// A token.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Secret::new(token));
        self
    }

    /// The public nkey of a user, with its signature of the [nonce](Challenge::nonce): the 64 bytes
    /// of Ed25519, not encoded.
    pub fn nkey(mut self, public_nkey: impl Into<String>, signature: impl Into<Vec<u8>>) -> Self {
        self.nkey = Some(public_nkey.into());
        self.signature = Some(signature.into());
        self
    }

    /// The JWT of a user, with the signature of the [nonce](Challenge::nonce) by the user's nkey:
    /// the 64 bytes of Ed25519, not encoded.
    pub fn jwt(mut self, jwt: impl Into<String>, signature: impl Into<Vec<u8>>) -> Self {
        self.jwt = Some(Secret::new(jwt));
        self.signature = Some(signature.into());
        self
    }

    /// A JWT whose account lets its bearer in without a signature.
    pub fn bearer_jwt(mut self, jwt: impl Into<String>) -> Self {
        self.jwt = Some(Secret::new(jwt));
        self.signature = None;
        self
    }

    /// Both, where the parts of this one stay.
    pub(crate) fn join(self, other: Self) -> Self {
        Self {
            user: self.user.or(other.user),
            token: self.token.or(other.token),
            nkey: self.nkey.or(other.nkey),
            jwt: self.jwt.or(other.jwt),
            signature: self.signature.or(other.signature),
        }
    }

    /// Refuses a signature of something else than a nonce.
    pub(crate) fn check(&self, challenge: &Challenge) -> Result<()> {
        if self.signature.is_some() { challenge.nonce().map(drop) } else { Ok(()) }
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_ref().map(|(user, _)| user.reveal())
    }

    pub(crate) fn password(&self) -> Option<&str> {
        self.user.as_ref().map(|(_, password)| password.reveal())
    }

    pub(crate) fn auth_token(&self) -> Option<&str> {
        self.token.as_ref().map(Secret::reveal)
    }

    pub(crate) fn public_nkey(&self) -> Option<&str> {
        self.nkey.as_deref()
    }

    pub(crate) fn user_jwt(&self) -> Option<&str> {
        self.jwt.as_ref().map(Secret::reveal)
    }

    /// The signature in the form of CONNECT.
    pub(crate) fn sig(&self) -> Option<String> {
        self.signature.as_ref().map(|signature| BASE64URL_NOPAD.encode(signature))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("user_and_password", self.user.is_some()),
            ("token", self.token.is_some()),
            ("nkey", self.nkey.is_some()),
            ("jwt", self.jwt.is_some()),
            ("signature", self.signature.is_some()),
        ];
        let there = parts.iter().filter(|(_, there)| *there).map(|(name, _)| name);
        f.write_str("Login")?;
        f.debug_set().entries(there).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_login_nor_a_challenge_shows_what_it_holds() {
        let login = Login::new()
            .user_and_password("hush", "hush")
            .token("hush")
            .nkey("hush", "hush")
            .jwt("hush", "hush");
        let challenge = Challenge::new("nats://a:1".to_owned(), Some("hush"), true);
        let shown = format!("{login:?} {login:#?} {challenge:?} {challenge:#?}");
        assert!(!shown.contains("hush") && !shown.contains("104"), "{shown}");
        assert!(shown.starts_with("Login{\"user_and_password\", \"token\", \"nkey\""), "{shown}");
    }

    #[test]
    fn a_signature_needs_a_nonce() {
        for nonce in [None, Some("")] {
            let challenge = Challenge::new("nats://a:1".to_owned(), nonce, true);
            let error = Login::new().nkey("U", [1]).check(&challenge).expect_err("no nonce");
            assert_eq!(error.kind(), ErrorKind::Credentials);
            assert!(error.to_string().contains("nats://a:1 sent no nonce"), "{error}");
            assert!(Login::new().token("t").bearer_jwt("j").check(&challenge).is_ok());
        }
    }
}
