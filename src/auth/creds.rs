//! The text of a credentials file: a JWT and the seed of its user, each between lines of dashes.
//!
//! ```text
//! -----BEGIN NATS USER JWT-----
//! eyJ0…
//! ------END NATS USER JWT------
//!
//! -----BEGIN USER NKEY SEED-----
//! SUA…
//! ------END USER NKEY SEED------
//! ```
//!
//! Text outside of the sections, and sections of other names, are passed over. An error names the
//! part and its line, never its content.

use super::jwt::{check_pair, subject_of};
use super::nkey::UserKey;
use super::secret::Secret;

/// What a credentials file holds.
pub(crate) struct Creds {
    pub(crate) jwt: Secret,
    pub(crate) key: UserKey,
}

/// A section as it is read: its one line with its number.
#[derive(Default)]
struct Section<'a> {
    name: &'static str,
    begun: usize,
    content: Option<(usize, &'a str)>,
}

impl Creds {
    /// Reads the text; the error says what is wrong, with the line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut jwt = None;
        let mut seed = None;
        for section in sections(text)? {
            let place = if section.name == JWT { &mut jwt } else { &mut seed };
            let (line, content) = section.content.ok_or_else(|| {
                format!("line {}: the section of the {} is empty", section.begun, section.name)
            })?;
            if place.replace((line, content)).is_some() {
                return Err(format!("line {}: a second {}", section.begun, section.name));
            }
        }
        let (jwt_line, jwt) = jwt.ok_or("it has no section BEGIN NATS USER JWT")?;
        let (seed_line, seed) = seed.ok_or("it has no section BEGIN USER NKEY SEED")?;
        let bad_jwt = |why| format!("line {jwt_line}: the {JWT} cannot be used: {why}");
        subject_of(jwt).map_err(bad_jwt)?;
        let key = UserKey::from_seed(seed)
            .map_err(|why| format!("line {seed_line}: the {SEED} cannot be used: {why}"))?;
        check_pair(jwt, &key.public()).map_err(bad_jwt)?;
        Ok(Self { jwt: Secret::new(jwt), key })
    }
}

const JWT: &str = "JWT";
const SEED: &str = "seed";

/// The sections of a JWT or a seed, in their order.
fn sections(text: &str) -> Result<Vec<Section<'_>>, String> {
    let mut found: Vec<Section<'_>> = Vec::new();
    let mut open: Option<Section<'_>> = None;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        match (line.starts_with("---") && line.ends_with("---"), &mut open) {
            (true, _) if line.contains("BEGIN") => {
                if let Some(unended) = open {
                    return Err(unended.has_no_end());
                }
                open = name_of(line).map(|name| Section { name, begun: number, content: None });
            }
            (true, _) => found.extend(open.take()),
            (false, Some(section)) if !line.is_empty() => {
                if section.content.replace((number, line)).is_some() {
                    let name = section.name;
                    return Err(format!("line {number}: the {name} has more than one line"));
                }
            }
            (false, _) => {}
        }
    }
    match open {
        Some(unended) => Err(unended.has_no_end()),
        None => Ok(found),
    }
}

fn name_of(line: &str) -> Option<&'static str> {
    let names = [("JWT", JWT), ("SEED", SEED)];
    names.into_iter().find(|(word, _)| line.contains(word)).map(|(_, name)| name)
}

impl Section<'_> {
    fn has_no_end(&self) -> String {
        format!("line {}: the section of the {} has no END", self.begun, self.name)
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64URL_NOPAD;

    use super::*;

    const A_SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";

    fn a_jwt(subject: &str) -> String {
        let encode = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let claims = encode(&format!("{{\"sub\":\"{subject}\"}}"));
        format!("{}.{claims}.{}", encode("{\"alg\":\"ed25519-nkey\"}"), encode("signed"))
    }

    fn own_jwt() -> String {
        a_jwt(&UserKey::from_seed(A_SEED).expect("a seed").public())
    }

    fn file(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\
             NKEY Seed printed below can be used to sign and prove identity.\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n\
             *************************************************************\n"
        )
    }

    #[test]
    fn a_file_is_read_with_every_end_of_line_and_in_either_order() {
        let good = file(&own_jwt(), A_SEED);
        let (first, second) = good.split_once("\n\n").expect("two sections");
        for text in [
            good.clone(),
            good.replace('\n', "\r\n"),
            good.trim_end().to_owned(),
            format!("\u{feff}\n  {good}"),
            format!("{second}\n{first}\n"),
            format!("-----BEGIN OTHER-----\nx\ny\n-----END OTHER-----\n{good}"),
        ] {
            let creds = Creds::parse(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
            assert_eq!(creds.jwt.reveal(), own_jwt());
        }
    }

    #[test]
    fn a_fault_is_named_by_its_part_and_line() {
        let jwt = own_jwt();
        let good = file(&jwt, A_SEED);
        let cut = |at: &str| good[..good.find(at).expect(at)].to_owned();
        for (text, part) in [
            (String::new(), "no section BEGIN NATS USER JWT"),
            ("hush".to_owned(), "no section BEGIN NATS USER JWT"),
            (cut("-----BEGIN USER"), "no section BEGIN USER NKEY SEED"),
            (cut("------END NATS"), "line 1: the section of the JWT has no END"),
            (cut("------END USER"), "line 8: the section of the seed has no END"),
            (file("", A_SEED), "line 1: the section of the JWT is empty"),
            (file(&jwt, ""), "line 8: the section of the seed is empty"),
            (file("hush", A_SEED), "line 2: the JWT cannot be used: it has 1 parts"),
            (file(&jwt, "hush"), "line 9: the seed cannot be used: it has 4 characters"),
            (file(&jwt, &A_SEED.replace("L3U", "L4U")), "line 9: the seed cannot be used: its che"),
            (file(A_SEED, &jwt), "line 2: the JWT cannot be used: it has 1 parts"),
            (file(&format!("{jwt}\n{jwt}"), A_SEED), "line 3: the JWT has more than one line"),
            (format!("{good}{good}"), "line 13: a second JWT"),
            (file(&a_jwt("UOTHER"), A_SEED), "line 2: the JWT cannot be used: it is of another"),
        ] {
            let why = Creds::parse(&text).err().expect(part);
            assert!(why.contains(part), "{part}: {why}");
            assert!(!why.contains("hush") && !why.contains("SUACS"), "{why}");
        }
    }

    /// A hundred thousand texts: random ones, and a good file with a few bytes changed.
    #[test]
    fn no_text_panics() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut draw = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) as usize % below
        };
        let good = file(&own_jwt(), A_SEED);
        let mut read = 0;
        for round in 0..110_000 {
            let mut bytes = match round % 11 {
                0..5 => (0..draw(200)).map(|_| draw(256) as u8).collect(),
                5..10 => (0..draw(80)).map(|_| b"SUAB.-\neyJ=0\r \xFF"[draw(15)]).collect(),
                _ => good.clone().into_bytes(),
            };
            for _ in 0..=draw(4) {
                let at = draw(bytes.len() + 1);
                match draw(4) {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at, draw(256) as u8),
                    2 => bytes.rotate_left(at),
                    _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = draw(256) as u8),
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            read += usize::from(Creds::parse(&text).is_ok());
            let word = text.lines().nth(1).unwrap_or_default();
            let _ = (UserKey::from_seed(word), subject_of(word));
            let _ = super::super::nkey::check_public_user(word);
        }
        assert!(read > 200, "some changes do no harm: {read}");
    }
}
