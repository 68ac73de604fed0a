//! Options from the environment, in the names that the `nats` command line tool uses. Read only
//! when the program asks for it.

use std::env;
use std::ffi::OsString;

use super::builder::OptionsBuilder;
use super::durations;
use super::made::Options;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::quote;
use crate::server_url::ServerUrl;

/// Variables whose option is not in this build.
const MISSING: &[(&str, &str)] = &[
    #[cfg(not(feature = "nkeys"))]
    ("NATS_CREDS", "OptionsBuilder::credentials_file of the feature nkeys"),
    #[cfg(not(feature = "nkeys"))]
    ("NATS_NKEY", "OptionsBuilder::nkey_file of the feature nkeys"),
    #[cfg(not(feature = "tls"))]
    ("NATS_CERT", "OptionsBuilder::client_certificate_files of the feature tls"),
    #[cfg(not(feature = "tls"))]
    ("NATS_KEY", "OptionsBuilder::client_certificate_files of the feature tls"),
    #[cfg(not(feature = "tls"))]
    ("NATS_CA", "OptionsBuilder::root_certificates_file of the feature tls"),
];

/// Options from the environment.
impl Options {
    /// Starts with the defaults and applies environment variables, in the names that the `nats`
    /// command line tool uses. Nothing else in this crate reads the environment.
    ///
    #[doc = include_str!("environment.md")]
    ///
    /// An empty variable counts as unset.
    ///
    /// # Errors
    ///
    /// [`InvalidOption`](ErrorKind::InvalidOption) and [`InvalidUrl`](ErrorKind::InvalidUrl),
    /// naming the variable and never a secret; also for a variable that is not UTF-8.
    ///
    /// ```
    /// // What is called later wins: the environment over the file, the program over both.
    /// let options = nats_blocking::Options::from_properties("io.nats.client.url=localhost")?
    ///     .environment()?
    ///     .name("my program")
    ///     .build()?;
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn from_environment() -> Result<OptionsBuilder> {
        Self::builder().environment()
    }
}

/// Options from the environment, on top of what is set already.
impl OptionsBuilder {
    /// Applies environment variables on top of what is set already; see
    /// [`Options::from_environment`].
    ///
    /// # Errors
    ///
    /// Those of [`Options::from_environment`].
    pub fn environment(self) -> Result<Self> {
        apply(self, |name| env::var_os(name))
    }
}

fn bad(text: String) -> Error {
    Error::new(ErrorKind::InvalidOption, text)
}

fn apply(
    mut builder: OptionsBuilder,
    look_up: impl Fn(&str) -> Option<OsString>,
) -> Result<OptionsBuilder> {
    let read = |name: &str| match look_up(name).filter(|value| !value.is_empty()) {
        None => Ok(None),
        Some(value) => match value.into_string() {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(bad(format!("{name} is not UTF-8"))),
        },
    };
    for (name, method) in MISSING {
        if read(name)?.is_some() {
            return Err(bad(format!("{name} cannot be used in this build; it needs {method}")));
        }
    }
    if read("NATS_SOCKS_PROXY")?.is_some() {
        let text = "NATS_SOCKS_PROXY is not read here, and a direct connection would go round it: \
                    a proxy is a Connector, given to OptionsBuilder::connector";
        return Err(bad(text.to_owned()));
    }
    match read("NATS_URL")? {
        Some(text) => builder = servers(builder, text)?,
        None if read("NATS_CONTEXT")?.is_some() => {
            let text = "NATS_CONTEXT names a context of the nats tool, which is not read here: set \
                        NATS_URL";
            return Err(bad(text.to_owned()));
        }
        None => {}
    }
    #[cfg(feature = "nkeys")]
    {
        if let Some(path) = read("NATS_CREDS")? {
            builder = builder.credentials_file(path);
        }
        if let Some(path) = read("NATS_NKEY")? {
            builder = builder.nkey_file(path);
        }
    }
    #[cfg(feature = "tls")]
    {
        if let Some(path) = read("NATS_CA")? {
            builder = builder.root_certificates_file(path);
        }
        builder = match (read("NATS_CERT")?, read("NATS_KEY")?) {
            (None, None) => builder,
            (Some(certificate), Some(key)) => builder.client_certificate_files(certificate, key),
            _ => return Err(bad("NATS_CERT and NATS_KEY are only set together".to_owned())),
        };
    }
    builder = login(builder, read("NATS_USER")?, read("NATS_PASSWORD")?, read("NATS_TOKEN")?)?;
    if let Some(text) = read("NATS_TIMEOUT")? {
        let timeout = durations::go(text.trim()).filter(|timeout| !timeout.is_zero());
        builder = builder.connect_timeout(timeout.ok_or_else(|| {
            let found = quote(text.as_bytes());
            bad(format!("NATS_TIMEOUT: expected a time such as 5s or 1m30s, found {found}"))
        })?);
    }
    if let Some(text) = read("NATS_INBOX_PREFIX")? {
        builder = builder.inbox_prefix(text);
    }
    Ok(builder)
}

fn servers(mut builder: OptionsBuilder, text: String) -> Result<OptionsBuilder> {
    let urls = ServerUrl::parse_list(&text).map_err(|error| {
        Error::caused_by(ErrorKind::InvalidUrl, format!("NATS_URL: {error}"), error)
    })?;
    if urls.is_empty() {
        return Err(Error::new(ErrorKind::InvalidUrl, "NATS_URL: the list of servers is empty"));
    }
    // Whoever sets the variable means these servers, not these among others.
    builder.servers.clear();
    Ok(builder.servers(text))
}

fn login(
    builder: OptionsBuilder,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
) -> Result<OptionsBuilder> {
    match (user, password, token) {
        (None, None, None) => Ok(builder),
        (None, None, Some(token)) | (Some(token), None, None) => Ok(builder.token(token)),
        (Some(user), Some(password), None) => Ok(builder.user_and_password(user, password)),
        (None, Some(password), None) => {
            let Some((user, _)) = builder.known_user() else {
                return Err(bad("NATS_PASSWORD is set without NATS_USER".to_owned()));
            };
            Ok(builder.user_and_password(user, password))
        }
        (Some(_), _, Some(_)) => {
            Err(bad("NATS_USER and NATS_TOKEN are both set: which of them?".to_owned()))
        }
        (None, Some(_), Some(_)) => {
            Err(bad("NATS_PASSWORD and NATS_TOKEN are both set: which of them?".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn with(variables: &[(&str, &str)], builder: OptionsBuilder) -> Result<OptionsBuilder> {
        apply(builder, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    fn from(variables: &[(&str, &str)]) -> Result<Options> {
        with(variables, Options::builder())?.build()
    }

    fn login_of(options: &Options) -> (Option<(String, String)>, Option<String>) {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let authorization = &options.config.authorization;
        let user = authorization.of("user_and_password");
        let token =
            authorization.of("token").and_then(|login| login.auth_token().map(str::to_owned));
        (user.map(|login| (text(login.user()), text(login.password()))), token)
    }

    #[test]
    fn every_variable_sets_its_option() {
        let options = from(&[
            ("NATS_URL", "nats://a:1,tls://b"),
            ("NATS_USER", "joe"),
            ("NATS_PASSWORD", "pw"),
            ("NATS_TIMEOUT", "1m30s"),
            ("NATS_INBOX_PREFIX", "mine"),
            ("NATS_COLOR", "red"),
            ("NATS_CONTEXT", "not read, but the URL is given"),
        ])
        .unwrap();
        let servers: Vec<String> = options.config.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["nats://a:1", "tls://b:4222"]);
        assert_eq!(login_of(&options), (Some(("joe".to_owned(), "pw".to_owned())), None));
        assert_eq!(options.config.connect_timeout, Duration::from_secs(90));
        assert_eq!(options.config.inbox_prefix, "mine");
        // A user alone is a token, as for the tool.
        let options = from(&[("NATS_USER", "t0k"), ("NATS_PASSWORD", "")]).unwrap();
        assert_eq!(login_of(&options), (None, Some("t0k".to_owned())));
        let options = from(&[("NATS_TOKEN", "t0k")]).unwrap();
        assert_eq!(login_of(&options), (None, Some("t0k".to_owned())));
    }

    #[test]
    fn without_variables_and_with_empty_ones_nothing_changes() {
        let names = ["URL", "USER", "PASSWORD", "TOKEN", "CREDS", "NKEY", "CERT", "KEY", "CA"];
        let more = ["TIMEOUT", "INBOX_PREFIX", "SOCKS_PROXY", "CONTEXT"];
        let names: Vec<String> =
            names.iter().chain(&more).map(|name| format!("NATS_{name}")).collect();
        let empty: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        let plain = format!("{:?}", Options::builder());
        assert_eq!(format!("{:?}", with(&empty, Options::builder()).unwrap()), plain);
        assert_eq!(format!("{:?}", with(&[], Options::builder()).unwrap()), plain);
    }

    #[test]
    fn variables_win_over_what_was_set_before() {
        let before = Options::builder()
            .servers("nats://before")
            .user_and_password("joe", "old")
            .connect_timeout(Duration::from_secs(1));
        let variables =
            [("NATS_URL", "after"), ("NATS_PASSWORD", "new"), ("NATS_TIMEOUT", "300ms")];
        let options = with(&variables, before).unwrap().build().unwrap();
        assert_eq!(options.config.servers.len(), 1);
        assert_eq!(options.config.servers[0].to_string(), "nats://after:4222");
        assert_eq!(login_of(&options).0, Some(("joe".to_owned(), "new".to_owned())));
        assert_eq!(options.config.connect_timeout, Duration::from_millis(300));
    }

    #[test]
    fn what_cannot_be_used_is_named_and_no_secret_is_shown() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("NATS_URL", &[("NATS_URL", "nats://joe:hunter2@host:port")]),
            ("NATS_URL", &[("NATS_URL", " , ")]),
            ("NATS_TIMEOUT", &[("NATS_TIMEOUT", "5")]),
            ("NATS_TIMEOUT", &[("NATS_TIMEOUT", "0")]),
            ("NATS_TIMEOUT", &[("NATS_TIMEOUT", "-1s")]),
            ("NATS_PASSWORD", &[("NATS_PASSWORD", "hunter2")]),
            ("NATS_TOKEN", &[("NATS_USER", "joe"), ("NATS_TOKEN", "hunter2")]),
            ("NATS_TOKEN", &[("NATS_PASSWORD", "hunter2"), ("NATS_TOKEN", "hunter2")]),
            ("NATS_SOCKS_PROXY", &[("NATS_SOCKS_PROXY", "joe:hunter2@proxy")]),
            ("NATS_CONTEXT", &[("NATS_CONTEXT", "dev")]),
            ("nkey_file", &[("NATS_CREDS", "/hunter2"), ("NATS_NKEY", "/hunter2")]),
            ("NATS_KEY", &[("NATS_CERT", "/hunter2")]),
            ("NATS_CERT", &[("NATS_KEY", "/hunter2")]),
        ];
        for (part, variables) in cases {
            let error = from(variables).expect_err(part);
            assert!(error.to_string().contains(part), "{part}: {error}");
            assert!(
                matches!(error.kind(), ErrorKind::InvalidOption | ErrorKind::InvalidUrl),
                "{part}: {:?}",
                error.kind()
            );
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2") && !shown.contains("joe"), "{shown}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_utf_8_is_named() {
        use std::os::unix::ffi::OsStringExt;
        let error = apply(Options::builder(), |name| {
            (name == "NATS_USER").then(|| OsString::from_vec(vec![b'j', 0xff]))
        })
        .expect_err("not UTF-8");
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        assert_eq!(error.to_string(), "NATS_USER is not UTF-8");
    }
}
