//! Logins that a seed in the hands of this process signs.

use super::creds::Creds;
use super::jwt::check_pair;
use super::login::{Challenge, Login};
use super::nkey::UserKey;
use crate::error::{Error, ErrorKind, Result};

/// Logins that are signed here; feature `nkeys`.
impl Login {
    /// The user of that seed, who signs the nonce.
    ///
    /// # Errors
    ///
    /// [`Credentials`](ErrorKind::Credentials) if the seed is malformed or not one of a user, or if
    /// the server sent no nonce.
    ///
    /// ```
    /// use nats_blocking::{Challenge, Login, Options};
    ///
    /// // Asked at every attempt: the seed may change while the program runs.
    /// let options = Options::builder()
    ///     .credentials_source(|challenge: &Challenge| {
    ///         let seed = std::fs::read_to_string("/run/secrets/user.nk")?;
    ///         Ok(Login::from_nkey_seed(seed.trim(), challenge)?)
    ///     })
    ///     .build()?;
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn from_nkey_seed(seed: &str, challenge: &Challenge) -> Result<Self> {
        let key = UserKey::from_seed(seed).map_err(|why| bad("seed", &why))?;
        Ok(Self::new().nkey(key.public(), key.sign(challenge.nonce()?)))
    }

    /// The user of that JWT, with the seed of its nkey, which signs the nonce.
    ///
    /// # Errors
    ///
    /// [`Credentials`](ErrorKind::Credentials) if either is malformed or belongs to another user,
    /// or if the server sent no nonce.
    ///
    /// ```
    /// use nats_blocking::{Challenge, Login, Options};
    ///
    /// # fn issue() -> Result<(String, String), std::io::Error> { Ok(Default::default()) }
    /// let options = Options::builder()
    ///     .credentials_source(|challenge: &Challenge| {
    ///         let (jwt, seed) = issue()?;
    ///         Ok(Login::from_jwt_and_seed(&jwt, &seed, challenge)?)
    ///     })
    ///     .build()?;
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn from_jwt_and_seed(jwt: &str, seed: &str, challenge: &Challenge) -> Result<Self> {
        let key = UserKey::from_seed(seed).map_err(|why| bad("seed", &why))?;
        check_pair(jwt, &key.public()).map_err(|why| bad("JWT", &why))?;
        Ok(Self::new().jwt(jwt, key.sign(challenge.nonce()?)))
    }

    /// The user of a credentials file, of which this is the text.
    ///
    /// # Errors
    ///
    /// [`Credentials`](ErrorKind::Credentials) naming the part and the line that are malformed, or
    /// if the server sent no nonce.
    ///
    /// ```
    /// use nats_blocking::{Challenge, Login, Options};
    ///
    /// # fn from_the_vault() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// let options = Options::builder()
    ///     .credentials_source(|challenge: &Challenge| {
    ///         Ok(Login::from_credentials(&from_the_vault()?, challenge)?)
    ///     })
    ///     .build()?;
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn from_credentials(text: &str, challenge: &Challenge) -> Result<Self> {
        let creds = Creds::parse(text).map_err(|why| {
            Error::new(ErrorKind::Credentials, format!("the credentials cannot be used: {why}"))
        })?;
        Ok(Self::new().jwt(creds.jwt.reveal(), creds.key.sign(challenge.nonce()?)))
    }
}

fn bad(part: &str, why: &str) -> Error {
    Error::new(ErrorKind::Credentials, format!("the {part} cannot be used: {why}"))
}
