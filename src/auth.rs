//! Who we say we are: user and password, or a token.
//!
//! User information in the URL of a server wins over the options, for that server. What is sent is
//! chosen here and nowhere else.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::server_url::{ServerUrl, UserInfo};

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the line that is sent to the server.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What the options say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    pub(crate) user: Option<(Secret, Secret)>,
    pub(crate) token: Option<Secret>,
}

/// What goes into CONNECT.
#[derive(Clone, Copy, Default)]
pub(crate) struct Login<'a> {
    pub(crate) user: Option<&'a str>,
    pub(crate) password: Option<&'a str>,
    pub(crate) token: Option<&'a str>,
}

impl Credentials {
    /// Refuses two ways at once: the server would silently choose one.
    pub(crate) fn check(&self) -> Result<()> {
        if self.user.is_some() && self.token.is_some() {
            let text = "a user with password and a token cannot both be given";
            return Err(Error::new(ErrorKind::InvalidOption, text));
        }
        Ok(())
    }

    /// What to say to that server.
    pub(crate) fn login<'a>(&'a self, url: &'a ServerUrl) -> Login<'a> {
        match url.user_info() {
            Some(UserInfo::UserPassword { user, password }) => {
                Login { user: Some(user), password: Some(password), token: None }
            }
            Some(UserInfo::Token(token)) => Login { token: Some(token), ..Login::default() },
            None => Login {
                user: self.user.as_ref().map(|(user, _)| user.reveal()),
                password: self.user.as_ref().map(|(_, password)| password.reveal()),
                token: self.token.as_ref().map(Secret::reveal),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_wins_over_the_options() {
        let credentials = Credentials {
            user: Some((Secret::new("option-user"), Secret::new("option-password"))),
            token: None,
        };
        let plain = ServerUrl::parse("host").expect("url");
        let login = credentials.login(&plain);
        assert_eq!((login.user, login.token), (Some("option-user"), None));
        let named = ServerUrl::parse("joe:pw@host").expect("url");
        assert_eq!(credentials.login(&named).user, Some("joe"));
        let token = ServerUrl::parse("t0k@host").expect("url");
        let login = credentials.login(&token);
        assert_eq!((login.user, login.token), (None, Some("t0k")));
        assert!(!format!("{credentials:?}").contains("option-"));
    }

    #[test]
    fn two_ways_at_once_are_refused() {
        let user = Some((Secret::new("u"), Secret::new("p")));
        let both = Credentials { user, token: Some(Secret::new("t")) };
        assert_eq!(both.check().expect_err("both").kind(), ErrorKind::InvalidOption);
    }
}
