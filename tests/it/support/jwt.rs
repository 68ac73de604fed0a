//! Operators, accounts and users: their keys, and the JWTs with which one vouches for the next.
//!
//! Every key is new and made of a number, so a test never shares a user with another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use ed25519_compact::{KeyPair, Seed};
use serde_json::{Value, json};

const USER: u8 = 20 << 3;
const ACCOUNT: u8 = 0;
const OPERATOR: u8 = 14 << 3;

/// A key with its kind.
#[derive(Clone)]
pub(crate) struct Key {
    kind: u8,
    seed: [u8; 32],
    pair: KeyPair,
}

impl Key {
    fn new(kind: u8) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut seed = [0x5A; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        seed[8..12].copy_from_slice(&std::process::id().to_le_bytes());
        Self { kind, seed, pair: KeyPair::from_seed(Seed::new(seed)) }
    }

    /// A user who is known by the public nkey alone.
    pub(crate) fn user() -> Self {
        Self::new(USER)
    }

    pub(crate) fn public(&self) -> String {
        encode(&[&[self.kind], &self.pair.pk[..]].concat())
    }

    pub(crate) fn seed(&self) -> String {
        let prefix = [18 << 3 | self.kind >> 5, (self.kind & 31) << 3];
        encode(&[&prefix[..], &self.seed].concat())
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.pair.sk.sign(bytes, None).to_vec()
    }

    /// Whether the signature, as CONNECT has it, is one of these bytes by this key.
    pub(crate) fn has_signed(&self, bytes: &[u8], sig: &str) -> bool {
        let raw = BASE64URL_NOPAD.decode(sig.as_bytes()).unwrap();
        let signature = ed25519_compact::Signature::from_slice(&raw).unwrap();
        self.pair.pk.verify(bytes, &signature).is_ok()
    }

    fn jwt(&self, name: &str, subject: &Self, expires: Option<u64>, nats: &Value) -> String {
        let mut claims = json!({
            "jti": format!("{name}-{}", subject.public()),
            "iat": now(),
            "iss": self.public(),
            "name": name,
            "sub": subject.public(),
            "nats": nats,
        });
        if let Some(expires) = expires {
            claims["exp"] = expires.into();
        }
        let part = |json: &Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
        let signed =
            format!("{}.{}", part(&json!({"typ": "JWT", "alg": "ed25519-nkey"})), part(&claims));
        let signature = BASE64URL_NOPAD.encode(&self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

fn encode(raw: &[u8]) -> String {
    let mut sum = 0_u16;
    for byte in raw {
        sum ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            sum = if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 };
        }
    }
    BASE32_NOPAD.encode(&[raw, &sum.to_le_bytes()].concat())
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "an expiry is a time of the wall clock")]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The key of an operator and its JWT, which is made once: the time in it is of that moment, and a
/// server that is to reload takes no other operator.
pub(crate) struct Operator(Key, String);

impl Operator {
    pub(crate) fn new() -> Self {
        let key = Key::new(OPERATOR);
        let jwt = key.jwt("operator", &key, None, &json!({"type": "operator", "version": 2}));
        Self(key, jwt)
    }

    pub(crate) fn jwt(&self) -> String {
        self.1.clone()
    }
}

/// An account with its users.
pub(crate) struct Account {
    key: Key,
    revoked: BTreeMap<String, u64>,
}

impl Account {
    pub(crate) fn new() -> Self {
        Self { key: Key::new(ACCOUNT), revoked: BTreeMap::new() }
    }

    pub(crate) fn public(&self) -> String {
        self.key.public()
    }

    pub(crate) fn seed(&self) -> String {
        self.key.seed()
    }

    /// What was issued to that user until now is not to be taken any more.
    pub(crate) fn revoke(&mut self, user: &Key) {
        self.revoked.insert(user.public(), now() + 1);
    }

    pub(crate) fn jwt(&self, operator: &Operator) -> String {
        let nats = json!({
            "limits": {
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
                "wildcards": true, "conn": -1, "leaf": -1,
            },
            "default_permissions": {"pub": {}, "sub": {}},
            "revocations": self.revoked,
            "type": "account",
            "version": 2,
        });
        operator.0.jwt("account", &self.key, None, &nats)
    }

    /// The JWT of a user, for ever or for that time.
    pub(crate) fn user_jwt(&self, user: &Key, valid: Option<Duration>) -> String {
        let expires = valid.map(|valid| now() + valid.as_secs());
        let nats = json!({
            "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
            "type": "user", "version": 2,
        });
        self.key.jwt("user", user, expires, &nats)
    }

    /// The JWT of a user, so many characters long at least.
    pub(crate) fn long_user_jwt(&self, user: &Key, length: usize) -> String {
        let nats = json!({
            "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
            "tags": ["x".repeat(length)], "type": "user", "version": 2,
        });
        self.key.jwt("user", user, None, &nats)
    }

    /// The text of a credentials file of a user, valid for ever or for that time.
    pub(crate) fn creds(&self, user: &Key, valid: Option<Duration>) -> String {
        creds(&self.user_jwt(user, valid), &user.seed())
    }
}

/// The text of a credentials file.
pub(crate) fn creds(jwt: &str, seed: &str) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}
