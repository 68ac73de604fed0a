//! The ways that the options give to say who we are, which of them fit together, and what wins.
//!
//! Each way is a [`Credentials`] like one of the program. User information in the URL of a server
//! wins over all of them, for that server: nothing else is said there.

use std::fmt;

use super::login::{Challenge, Credentials, Login};
use crate::error::{Error, ErrorKind, Result};
use crate::server_url::UserInfo;
use crate::sync::Arc;

/// What a way gives, which decides what it fits with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A user with a password, or a token.
    User,
    /// A JWT with a signature. A user or a token beside it is for an authorization callout.
    Jwt,
    /// Fits with nothing else.
    Alone,
}

/// One way, as an option gives it.
#[derive(Clone)]
pub(crate) struct Way {
    /// The name of the option.
    name: &'static str,
    role: Role,
    /// Whether asking may block or run code of the program.
    foreign: bool,
    /// What is wrong with the option, if it can be seen before anybody asks.
    fault: Option<String>,
    source: Arc<dyn Credentials>,
}

/// Why there is no login.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Way {
    /// A way of our own that answers at once.
    pub(crate) fn own(name: &'static str, role: Role, source: impl Credentials) -> Self {
        Self { name, role, foreign: false, fault: None, source: Arc::new(source) }
    }

    /// A way that may block: a file, or code of the program.
    pub(crate) fn foreign(name: &'static str, role: Role, source: impl Credentials) -> Self {
        Self { name, role, foreign: true, fault: None, source: Arc::new(source) }
    }

    /// Says what is wrong with the option, for `build` to refuse.
    pub(crate) fn checked(mut self, checked: std::result::Result<(), String>) -> Self {
        self.fault = checked.err();
        self
    }
}

/// All that the options say about who we are.
#[derive(Clone, Default)]
pub(crate) struct Authorization(Vec<Way>);

impl Authorization {
    /// Takes a way; one of the same option is replaced.
    pub(crate) fn set(&mut self, way: Way) {
        self.0.retain(|known| known.name != way.name);
        self.0.push(way);
    }

    /// Refuses ways that cannot be used, and those that exclude each other: the server would
    /// silently choose one.
    pub(crate) fn check(&self) -> Result<()> {
        for (index, way) in self.0.iter().enumerate() {
            if let Some(fault) = &way.fault {
                let text = format!("{} cannot be used: {fault}", way.name);
                return Err(Error::new(ErrorKind::InvalidOption, text));
            }
            for other in self.0.iter().take(index) {
                let roles = [way.role, other.role];
                if !(roles.contains(&Role::User) && roles.contains(&Role::Jwt)) {
                    let text = format!("{} and {} cannot both be given", other.name, way.name);
                    return Err(Error::new(ErrorKind::InvalidOption, text));
                }
            }
        }
        Ok(())
    }

    /// Whether asking may block or run code of the program.
    pub(crate) fn is_foreign(&self) -> bool {
        self.0.iter().any(|way| way.foreign)
    }

    /// What the option of that name said, if it was given and answers at once.
    pub(crate) fn of(&self, option: &str) -> Option<Login> {
        let way = self.0.iter().find(|way| way.name == option && !way.foreign)?;
        way.source.login(&Challenge::new(String::new(), None, false)).ok()
    }

    /// Asks every way.
    pub(crate) fn ask(&self, challenge: &Challenge) -> Result<Login> {
        self.0.iter().try_fold(Login::new(), |login, way| {
            let more = way.source.login(challenge).map_err(|error| failed(way.name, error))?;
            Ok(login.join(more))
        })
    }
}

impl Login {
    /// What the URL of a server says.
    pub(crate) fn from_user_info(info: &UserInfo) -> Self {
        match info {
            UserInfo::UserPassword { user, password } => {
                Self::new().user_and_password(user, password)
            }
            UserInfo::Token(token) => Self::new().token(token),
        }
    }
}

/// The error of a way. What it says is a source and not a cause: that another server refused
/// somebody there is no refusal by this one.
fn failed(name: &str, error: Failure) -> Error {
    Error::with_source(ErrorKind::Credentials, format!("{name}: {error}"), error)
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization")?;
        f.debug_set().entries(self.0.iter().map(|way| way.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server_error::ServerError;

    fn way(name: &'static str, role: Role) -> Way {
        Way::own(name, role, move |_: &Challenge| Ok(Login::new().token(name)))
    }

    #[test]
    fn ways_that_exclude_each_other_are_both_named() {
        use Role::{Alone, Jwt, User};
        for (first, second, fits) in [
            (User, User, false),
            (User, Jwt, true),
            (Jwt, User, true),
            (Jwt, Jwt, false),
            (User, Alone, false),
            (Alone, Jwt, false),
            (Alone, Alone, false),
        ] {
            let mut ways = Authorization::default();
            ways.set(way("one", first));
            assert!(ways.check().is_ok());
            ways.set(way("two", second));
            match ways.check() {
                Ok(()) => assert!(fits, "{first:?} {second:?}"),
                Err(error) => {
                    assert!(!fits, "{first:?} {second:?}");
                    assert_eq!(error.kind(), ErrorKind::InvalidOption);
                    assert_eq!(error.to_string(), "one and two cannot both be given");
                }
            }
        }
    }

    #[test]
    fn the_last_setting_of_an_option_wins() {
        let mut ways = Authorization::default();
        ways.set(way("one", Role::User).checked(Err("bad".to_owned())));
        assert_eq!(ways.check().expect_err("bad").to_string(), "one cannot be used: bad");
        ways.set(way("one", Role::User));
        assert!(ways.check().is_ok());
        assert_eq!(format!("{ways:?}"), "Authorization{\"one\"}");
    }

    #[test]
    fn an_error_of_the_program_is_the_source() {
        let mut ways = Authorization::default();
        let fault = |_: &Challenge| Err("out of order".into());
        ways.set(Way::foreign("credentials_source", Role::Alone, fault));
        let error = ways.ask(&Challenge::new(String::new(), None, false)).expect_err("a fault");
        assert_eq!(error.kind(), ErrorKind::Credentials);
        assert_eq!(error.to_string(), "credentials_source: out of order");
        assert!(std::error::Error::source(&error).is_some());
        assert!(ways.is_foreign());
    }

    #[test]
    fn a_refusal_that_a_source_met_elsewhere_is_none_of_this_server() {
        let refusal = || Error::from(ServerError::parse("Authorization Violation"));
        assert!(refusal().is_authorization());
        let mut ways = Authorization::default();
        let refused = move |_: &Challenge| Err(refusal().into());
        ways.set(Way::foreign("credentials_source", Role::Alone, refused));
        let error = ways.ask(&Challenge::new(String::new(), None, false)).expect_err("a fault");
        assert!(!error.is_authorization() && error.server_error().is_none());
        assert!(error.to_string().contains("Authorization Violation"), "{error}");
    }
}
