//! Who to be, with a seed that signs in this process; there with the feature `nkeys`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::authorization::signed;
use super::builder::OptionsBuilder;
use crate::auth::{Challenge, Creds, Login, Role, Secret, UserKey, Way, check_pair};
use crate::error::{Error, ErrorKind};

/// No credentials file is larger, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// Who to be, with a seed that signs here; feature `nkeys`.
impl OptionsBuilder {
    /// The user of that nkey seed (`SU…`), who is known to the server by the public nkey.
    pub fn nkey_seed(self, seed: impl Into<String>) -> Self {
        let seed = Secret::new(seed);
        let checked =
            UserKey::from_seed(seed.reveal()).map(drop).map_err(|why| format!("the seed: {why}"));
        let way = Way::own("nkey_seed", Role::Alone, move |challenge: &Challenge| {
            signed(challenge, |_| Ok(Login::from_nkey_seed(seed.reveal(), challenge)?))
        });
        self.way(way.checked(checked))
    }

    /// A file with the nkey seed (`SU…`) of a user, blanks around it allowed. It is read at every
    /// attempt; a file that is not there, or not whole, makes that attempt fail with its path.
    pub fn nkey_file(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.way(Way::foreign("nkey_file", Role::Alone, move |challenge: &Challenge| {
            let text = read_file(&path)?;
            let seed = text.reveal().trim();
            // A malformed file is told also where nothing is to be signed.
            UserKey::from_seed(seed).map_err(|why| {
                let before = text.reveal().split(seed).next().unwrap_or_default();
                bad_file(&path, &format!("line {}: the seed: {why}", line_behind(before)))
            })?;
            signed(challenge, |_| Ok(Login::from_nkey_seed(seed, challenge)?))
        }))
    }

    /// The user of that JWT, with the seed (`SU…`) of the user's nkey.
    pub fn jwt_and_seed(self, jwt: impl Into<String>, seed: impl Into<String>) -> Self {
        let (jwt, seed) = (Secret::new(jwt), Secret::new(seed));
        let key = UserKey::from_seed(seed.reveal()).map_err(|why| format!("the seed: {why}"));
        let checked = key.and_then(|key| {
            check_pair(jwt.reveal(), &key.public()).map_err(|why| format!("the JWT: {why}"))
        });
        let way = Way::own("jwt_and_seed", Role::Jwt, move |challenge: &Challenge| {
            signed(challenge, |_| {
                Ok(Login::from_jwt_and_seed(jwt.reveal(), seed.reveal(), challenge)?)
            })
        });
        self.way(way.checked(checked))
    }

    /// A credentials file with JWT and seed, as `nsc` writes it. It is read at every attempt, so
    /// that it may be replaced while the connection lives; a file that is not there, or not whole,
    /// makes that attempt fail with its path.
    pub fn credentials_file(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.way(Way::foreign("credentials_file", Role::Jwt, move |challenge: &Challenge| {
            let text = read_file(&path)?;
            // A malformed file is told also where nothing is to be signed.
            let creds = Creds::parse(text.reveal()).map_err(|why| bad_file(&path, &why))?;
            let sign = |nonce: &[u8]| Login::new().jwt(creds.jwt.reveal(), creds.key.sign(nonce));
            signed(challenge, |nonce| Ok(sign(nonce)))
        }))
    }

    /// The text of a credentials file.
    pub fn credentials(self, text: impl Into<String>) -> Self {
        let text = Secret::new(text);
        let checked = Creds::parse(text.reveal()).map(drop);
        let way = Way::own("credentials", Role::Jwt, move |challenge: &Challenge| {
            signed(challenge, |_| Ok(Login::from_credentials(text.reveal(), challenge)?))
        });
        self.way(way.checked(checked))
    }
}

fn read_file(path: &Path) -> Result<Secret, Error> {
    let mut bytes = Vec::new();
    let read = |bytes: &mut Vec<u8>| {
        File::open(path)?.take(LARGEST_FILE.saturating_add(1)).read_to_end(bytes)
    };
    match read(&mut bytes) {
        Ok(length) if length as u64 > LARGEST_FILE => {
            Err(bad_file(path, &format!("it is larger than {LARGEST_FILE} bytes")))
        }
        Ok(_) => String::from_utf8(bytes).map(Secret::new).map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let before = error.as_bytes().get(..good).unwrap_or_default();
            let line = line_behind(&String::from_utf8_lossy(before));
            bad_file(path, &format!("line {line}: it holds a byte that is no UTF-8"))
        }),
        Err(error) => {
            let text = format!("'{}' cannot be read: {error}", path.display());
            Err(Error::with_source(ErrorKind::Credentials, text, error))
        }
    }
}

/// The number of the line that begins, or goes on, behind this text.
fn line_behind(text: &str) -> usize {
    text.matches('\n').count() + 1
}

fn bad_file(path: &Path, why: &str) -> Error {
    let text = format!("'{}' cannot be used: {why}", path.display());
    Error::new(ErrorKind::Credentials, text)
}
