//! NKeys: Ed25519 keys in base32, with a prefix that says whose they are and a checksum.
//!
//! A public key is `prefix, 32 bytes, CRC16`; a seed is `seed prefix and kind in two bytes, 32
//! bytes, CRC16`. Only seeds and public keys of users are taken: a client is a user, and the seed
//! of an account or an operator must not lie where a client can read it. What is wrong is told
//! without any part of the key.
//!
//! Reading needs no feature; signing does.

use data_encoding::BASE32_NOPAD;

/// The kind in a public key's first byte, and in a seed beside its own prefix.
const USER: u8 = 20 << 3;
const KINDS: [(u8, &str); 7] = [
    (USER, "user"),
    (0, "account"),
    (14 << 3, "operator"),
    (13 << 3, "server"),
    (2 << 3, "cluster"),
    (23 << 3, "curve"),
    (15 << 3, "private"),
];
const SEED: u8 = 18 << 3;

/// Characters of a seed, and of a public key.
const SEED_LENGTH: usize = 58;
const PUBLIC_LENGTH: usize = 56;

/// Reads a public key of a user; the error says what is wrong.
pub(crate) fn check_public_user(text: &str) -> Result<(), String> {
    if text.starts_with('S') && text.len() == SEED_LENGTH {
        return Err("it is a seed, which is secret, where a public nkey stands".to_owned());
    }
    let raw = decode(text, PUBLIC_LENGTH, "public nkey")?;
    match raw.first() {
        Some(&USER) => Ok(()),
        Some(&first) => Err(wrong_kind(first, "public nkey")),
        None => Err("it is empty".to_owned()),
    }
}

/// The 32 bytes of a user's seed; the error says what is wrong.
#[cfg_attr(not(feature = "nkeys"), allow(dead_code))]
fn seed_bytes(text: &str) -> Result<[u8; 32], String> {
    if text.len() == PUBLIC_LENGTH && check_kind_of_public(text) {
        return Err("it is a public nkey, which cannot sign; a seed begins with S".to_owned());
    }
    let raw = decode(text, SEED_LENGTH, "seed")?;
    let (prefix, rest) = raw.split_first_chunk::<2>().ok_or("it is too short")?;
    if prefix[0] & 0xF8 != SEED {
        return Err("it does not begin with the prefix of a seed".to_owned());
    }
    let kind = prefix[0] << 5 | prefix[1] >> 3;
    if kind != USER {
        return Err(wrong_kind(kind, "seed"));
    }
    rest.try_into().map_err(|_| "it has the wrong length".to_owned())
}

fn check_kind_of_public(text: &str) -> bool {
    let raw = decode(text, PUBLIC_LENGTH, "public nkey");
    raw.is_ok_and(|raw| raw.first().is_some_and(|first| KINDS.iter().any(|kind| kind.0 == *first)))
}

fn wrong_kind(kind: u8, what: &str) -> String {
    match KINDS.iter().find(|known| known.0 == kind) {
        Some((_, name)) => {
            let article = if name.starts_with(['a', 'o']) { "an" } else { "a" };
            format!("it is the {what} of {article} {name}, not of a user")
        }
        None => format!("it is a {what} of an unknown kind"),
    }
}

/// The bytes before the checksum, which is right.
fn decode(text: &str, length: usize, what: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() != length {
        return Err(format!("it has {} characters, a {what} has {length}", text.len()));
    }
    let mut raw = BASE32_NOPAD
        .decode(text.as_bytes())
        .map_err(|error| format!("character {} is not of its base32", error.position + 1))?;
    let sum = raw.split_off(raw.len().saturating_sub(2));
    if sum != crc16(&raw).to_le_bytes() {
        return Err("its checksum is wrong: a character is missing or changed".to_owned());
    }
    Ok(raw)
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum: u16, _| {
            if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 }
        })
    })
}

/// The key pair of a user. Wiped when dropped; it has no `Debug` form.
#[cfg(feature = "nkeys")]
pub(crate) struct UserKey(ed25519_compact::KeyPair);

#[cfg(feature = "nkeys")]
impl UserKey {
    /// Reads a user's seed; the error says what is wrong.
    pub(crate) fn from_seed(seed: &str) -> Result<Self, String> {
        let seed = ed25519_compact::Seed::new(seed_bytes(seed)?);
        Ok(Self(ed25519_compact::KeyPair::from_seed(seed)))
    }

    /// The public nkey, which names the user.
    pub(crate) fn public(&self) -> String {
        let mut raw = vec![USER];
        raw.extend_from_slice(&self.0.pk[..]);
        raw.extend_from_slice(&crc16(&raw).to_le_bytes());
        BASE32_NOPAD.encode(&raw)
    }

    /// The signature of what the server sent.
    pub(crate) fn sign(&self, nonce: &[u8]) -> Vec<u8> {
        self.0.sk.sign(nonce, None).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seed in the NATS documentation, and its public key.
    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    #[test]
    fn what_is_no_seed_of_a_user_is_named() {
        let cases = [
            (String::new(), "empty"),
            (PUBLIC.to_owned(), "public nkey, which cannot sign"),
            ("SAAAOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOB6O4U".to_owned(), "an account"),
            (
                "SOAAOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOB4CS4".to_owned(),
                "an operator",
            ),
            ("SNAAOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOB4BGI".to_owned(), "a server"),
            (SEED.replace("VY", "VZ"), "character"),
            (SEED.replace("L3U", "L4U"), "checksum"),
            (SEED.to_lowercase(), "character 1 "),
            (SEED[1..].to_owned(), "57 characters, a seed has 58"),
            (format!("{SEED}\n"), "59 characters"),
        ];
        for (seed, part) in cases {
            let error = seed_bytes(&seed).expect_err(part);
            assert!(error.contains(part), "{part}: {error}");
            assert!(seed.len() < 5 || !error.contains(&seed[..5]), "{error}");
        }
        assert!(seed_bytes(SEED).is_ok());
    }

    #[test]
    fn what_is_no_public_key_of_a_user_is_named() {
        assert_eq!(check_public_user(PUBLIC), Ok(()));
        let account = "ADVEU3DD4KOFECV66VIHWEZOYX4ZKR3WV27L464SIIPOU2IUI3JCZW22";
        for (text, part) in [
            (SEED, "it is a seed"),
            (account, "the public nkey of an account"),
            ("UDXU", "4 characters"),
            ("", "empty"),
        ] {
            let error = check_public_user(text).expect_err(part);
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    #[cfg(feature = "nkeys")]
    fn keys_and_signatures_are_those_of_the_reference() {
        use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
        let mut checked = 0;
        let vectors = include_str!("../../tests/vectors/nkeys.txt");
        for line in vectors.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            let [seed, public, message, signature] = words[..] else { panic!("{line}") };
            let message = message.trim_start_matches('-');
            let key = UserKey::from_seed(seed).expect(seed);
            assert_eq!(key.public(), public);
            let nonce = HEXLOWER.decode(message.as_bytes()).expect("hex");
            assert_eq!(BASE64URL_NOPAD.encode(&key.sign(&nonce)), signature, "{seed}");
            checked += 1;
        }
        assert!(checked >= 20);
        assert!(vectors.contains(SEED) && vectors.contains(PUBLIC));
    }

    /// The first three vectors of RFC 8032, 7.1.
    #[test]
    #[cfg(feature = "nkeys")]
    fn signatures_are_those_of_the_standard() {
        use data_encoding::HEXLOWER;
        let vectors = [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
                 5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                 085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                "af82",
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
                 18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ];
        for (secret, public, message, signature) in vectors {
            let bytes = |hex: &str| HEXLOWER.decode(hex.as_bytes()).expect("hex");
            let seed: [u8; 32] = bytes(secret).try_into().expect("32 bytes");
            let key = UserKey(ed25519_compact::KeyPair::from_seed(seed.into()));
            assert_eq!(HEXLOWER.encode(&key.0.pk[..]), public);
            assert_eq!(HEXLOWER.encode(&key.sign(&bytes(message))), signature);
        }
    }
}
