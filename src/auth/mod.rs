//! Who we say we are.
//!
//! | file | what |
//! | --- | --- |
//! | `secret` | text that is never printed |
//! | `nkey` | nkeys: reading seeds and public keys, signing |
//! | `jwt` | whether a text is a JWT, and of which nkey |
//! | `creds` | the text of a credentials file |
//! | `login` | what is said to a server, and the trait that answers its challenge |
//! | `sign` | logins that a seed of ours signs |
//! | `ways` | the ways that the options give, and what wins |
//!
//! Nothing here knows a socket or a thread; when a way is asked is decided in `core/asking.rs`.
//! What is wrong with a secret is told by its part and line, never by its content.

#[cfg(feature = "nkeys")]
mod creds;
mod jwt;
mod login;
mod nkey;
mod secret;
#[cfg(feature = "nkeys")]
mod sign;
mod ways;

#[cfg(feature = "nkeys")]
pub(crate) use self::creds::Creds;
#[cfg(feature = "nkeys")]
pub(crate) use self::jwt::check_pair;
pub(crate) use self::jwt::subject_of;
pub use self::login::{Challenge, Credentials, Login};
#[cfg(feature = "nkeys")]
pub(crate) use self::nkey::UserKey;
pub(crate) use self::nkey::check_public_user;
pub(crate) use self::secret::Secret;
pub(crate) use self::ways::{Authorization, Failure, Role, Way};
