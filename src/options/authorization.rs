//! Who to be: the ways to say it, each a setter; those that need a seed stand in `signing.rs`.
//! Which fit together is decided in `auth/ways.rs`.

use std::error::Error as StdError;

use super::builder::OptionsBuilder;
use crate::auth::{
    Challenge, Credentials, Failure, Login, Role, Secret, Way, check_public_user, subject_of,
};

/// Who to be.
///
/// One of these ways is given, and a second one is refused by [`build`](Self::build); but beside a
/// JWT there may be a user with a password or a token, which is how a server with an authorization
/// callout is told. User information in the URL of a server (`user:password@` or `token@`) wins
/// over them: that server is told nothing else.
///
/// What signs needs a nonce from the server. A server that sends none and requires credentials is
/// an error; one that requires none is told nothing.
impl OptionsBuilder {
    /// User and password as they were given before.
    pub(super) fn known_user(&self) -> Option<(String, String)> {
        let login = self.config.authorization.of("user_and_password")?;
        Some((login.user()?.to_owned(), login.password().unwrap_or_default().to_owned()))
    }

    /// A user with a password, for servers whose URL has none.
    pub fn user_and_password(self, user: impl Into<String>, password: impl Into<String>) -> Self {
        let (user, password) = (Secret::new(user), Secret::new(password));
        self.way(Way::own("user_and_password", Role::User, move |_: &Challenge| {
            Ok(Login::new().user_and_password(user.reveal(), password.reveal()))
        }))
    }

    /// A token, for servers whose URL has none.
    pub fn token(self, token: impl Into<String>) -> Self {
        let token = Secret::new(token);
        self.way(Way::own("token", Role::User, move |_: &Challenge| {
            Ok(Login::new().token(token.reveal()))
        }))
    }

    /// A closure that gives user and password, asked at every attempt, as
    /// [`Credentials`] are.
    ///
    /// ```
    /// # fn password_of_today() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// let options = nats_blocking::Options::builder()
    ///     .user_and_password_supplier(|| Ok(("joe".to_owned(), password_of_today()?)))
    ///     .build()?;
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn user_and_password_supplier<F>(self, supplier: F) -> Self
    where
        F: Fn() -> Result<(String, String), Box<dyn StdError + Send + Sync>>
            + Send
            + Sync
            + 'static,
    {
        self.way(Way::foreign("user_and_password_supplier", Role::User, move |_: &Challenge| {
            let (user, password) = supplier()?;
            Ok(Login::new().user_and_password(user, password))
        }))
    }

    /// A closure that gives a token, asked at every attempt, as [`Credentials`] are.
    ///
    /// ```
    /// let options = nats_blocking::Options::builder()
    ///     .token_supplier(|| Ok(std::fs::read_to_string("/run/token")?.trim().to_owned()))
    ///     .build()?;
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn token_supplier<F>(self, supplier: F) -> Self
    where
        F: Fn() -> Result<String, Box<dyn StdError + Send + Sync>> + Send + Sync + 'static,
    {
        self.way(Way::foreign("token_supplier", Role::User, move |_: &Challenge| {
            Ok(Login::new().token(supplier()?))
        }))
    }

    /// The public nkey of a user, and a closure that signs with it what the server sent: the 64
    /// bytes of Ed25519, not encoded. It is asked at every attempt, as [`Credentials`] are, so
    /// that the key may stay where it is.
    pub fn nkey_and_signer<F>(self, public_nkey: impl Into<String>, signer: F) -> Self
    where
        F: Fn(&[u8]) -> Result<Vec<u8>, Box<dyn StdError + Send + Sync>> + Send + Sync + 'static,
    {
        let public = public_nkey.into();
        let checked = check_public_user(&public).map_err(|why| format!("the public nkey: {why}"));
        let way = Way::foreign("nkey_and_signer", Role::Alone, move |challenge: &Challenge| {
            signed(challenge, |nonce| Ok(Login::new().nkey(&public, signer(nonce)?)))
        });
        self.way(way.checked(checked))
    }

    /// The JWT of a user, and a closure that signs with the user's nkey what the server sent: the
    /// 64 bytes of Ed25519, not encoded. It is asked at every attempt, as [`Credentials`] are, so
    /// that the key may stay where it is. A JWT that changes needs
    /// [`credentials_source`](Self::credentials_source).
    pub fn jwt_and_signer<F>(self, jwt: impl Into<String>, signer: F) -> Self
    where
        F: Fn(&[u8]) -> Result<Vec<u8>, Box<dyn StdError + Send + Sync>> + Send + Sync + 'static,
    {
        let jwt = Secret::new(jwt);
        let checked = subject_of(jwt.reveal()).map(drop).map_err(|why| format!("the JWT: {why}"));
        let way = Way::foreign("jwt_and_signer", Role::Jwt, move |challenge: &Challenge| {
            signed(challenge, |nonce| Ok(Login::new().jwt(jwt.reveal(), signer(nonce)?)))
        });
        self.way(way.checked(checked))
    }

    /// Somebody who is asked at every attempt; see [`Credentials`].
    pub fn credentials_source(self, source: impl Credentials) -> Self {
        self.way(Way::foreign("credentials_source", Role::Alone, source))
    }

    pub(super) fn way(mut self, way: Way) -> Self {
        self.config.authorization.set(way);
        self
    }
}

/// Signs if the server sent a nonce. If it sent none and lets anybody in, nothing is said.
pub(super) fn signed(
    challenge: &Challenge,
    sign: impl FnOnce(&[u8]) -> Result<Login, Failure>,
) -> Result<Login, Failure> {
    match challenge.nonce() {
        Ok(nonce) => sign(nonce),
        Err(_) if !challenge.auth_required() => Ok(Login::new()),
        Err(error) => Err(error.into()),
    }
}
