//! JWTs of NATS users: whether a text is one, and whose.
//!
//! The server judges signatures and claims; what is found here is what went wrong on the way from
//! the file to the option: a piece that is cut off, a seed in its place, another user's seed.

use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;

/// The public nkey that the claims are about, none if they name none. The error says which part is
/// wrong, without its content.
pub(crate) fn subject_of(jwt: &str) -> Result<Option<String>, String> {
    if jwt.is_empty() {
        return Err("it is empty".to_owned());
    }
    let parts: Vec<&str> = jwt.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        return Err(format!("it has {} parts joined by dots, a JWT has 3", parts.len()));
    };
    json(header, "header")?;
    let claims = json(claims, "claims")?;
    if bytes(signature, "signature")?.is_empty() {
        return Err("its signature is empty".to_owned());
    }
    Ok(claims.get("sub").and_then(Value::as_str).map(str::to_owned))
}

/// Whether the seed whose public nkey that is belongs to the user of the JWT: the server would only
/// say that it refuses.
#[cfg(feature = "nkeys")]
pub(crate) fn check_pair(jwt: &str, public: &str) -> Result<(), String> {
    match subject_of(jwt)? {
        Some(subject) if subject != public => Err("it is of another user than the seed".to_owned()),
        _ => Ok(()),
    }
}

fn bytes(part: &str, name: &str) -> Result<Vec<u8>, String> {
    BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|error| {
        format!("its {name} is not base64url, at character {} of it", error.position + 1)
    })
}

fn json(part: &str, name: &str) -> Result<Value, String> {
    // The fault of the JSON reader could show a piece of what it read.
    match serde_json::from_slice(&bytes(part, name)?) {
        Ok(value @ Value::Object(_)) => Ok(value),
        _ => Err(format!("its {name} is no JSON object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(header: &str, claims: &str) -> String {
        let encode = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        format!("{}.{}.{}", encode(header), encode(claims), encode("signature"))
    }

    #[test]
    fn a_jwt_says_whose_it_is() {
        assert_eq!(subject_of(&jwt("{}", "{\"sub\":\"UX\"}")), Ok(Some("UX".to_owned())));
        assert_eq!(subject_of(&jwt("{}", "{}")), Ok(None));
    }

    #[test]
    fn what_is_no_jwt_is_named_by_its_part() {
        let good = jwt("{}", "{}");
        for (text, part) in [
            (String::new(), "empty"),
            ("hush".to_owned(), "1 parts"),
            (format!("{good}.x"), "4 parts"),
            (jwt("[]", "{}"), "header is no JSON object"),
            (jwt("{}", "hush"), "claims is no JSON object"),
            (format!("h!sh{good}"), "header is not base64url, at character 2"),
            (good.replace(".c", ".\u{e9}"), "signature is not base64url"),
            (good.rsplit_once('.').expect("parts").0.to_owned() + ".", "signature is empty"),
        ] {
            let error = subject_of(&text).expect_err(part);
            assert!(error.contains(part), "{part}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
