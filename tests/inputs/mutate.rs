//! Inputs that were good once, or are known to be bad, changed at random.

use super::corpus::read_entries;

/// A small generator of its own: this folder stands alone.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(number: u64) -> Self {
        Self(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// From 0 up to `limit`, without it.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// What parsers have stumbled over.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"\0",
    b":",
    b": ",
    b"\"",
    b"'",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"@",
    b"/",
    b"%",
    b"%00",
    b"=",
    b"-",
    b"+",
    b"0",
    b"1",
    b"12",
    b"65536",
    b"4294967296",
    b"9223372036854775807",
    b"9999999999999999999",
    b"\xff",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"MSG a 1 2\r\nhi\r\n",
    b"HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
    b"PING\r\n",
    b"PONG\r\n",
    b"+OK\r\n",
    b"-ERR 'x'\r\n",
    b"INFO {}\r\n",
    b"NATS/1.0",
    b"NATS/1.0 503\r\n",
    b"null",
    b"true",
    b"1e9",
    b"\\u0000",
    b"\\ud800",
    b"-----BEGIN NATS USER JWT-----\n",
    b"-----END-----\n",
    b"nats://",
    b"tls://",
    b"[::1]",
    b"::1",
    b"..",
    b"*",
    b">",
    b".",
];

/// A changed copy of one of the seeds.
pub(crate) fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(5) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(12)).min(bytes.len());
        match random.below(7) {
            0 if !bytes.is_empty() => {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
            1 => drop(bytes.drain(at..end)),
            2 => bytes.truncate(at),
            3 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                let to = (from + random.below(200)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => {
                let word = WORDS[random.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }
    bytes
}

/// With two bytes in front, which say how it is cut.
fn cut_differently(inputs: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let numbered = (0u16..).zip(inputs);
    numbered.map(|(number, input)| [&number.to_be_bytes()[..], &input].concat()).collect()
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The short ones of the corpus.
fn corpus() -> impl Iterator<Item = Vec<u8>> {
    read_entries().into_iter().map(|entry| entry.bytes).filter(|bytes| bytes.len() <= 4096)
}

pub(crate) fn server_seeds() -> Vec<Vec<u8>> {
    cut_differently(corpus())
}

pub(crate) fn header_seeds() -> Vec<Vec<u8>> {
    let blocks = corpus().filter_map(|bytes| {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        bytes.starts_with(b"HMSG").then(|| bytes[end + 1..].to_vec())
    });
    blocks
        .chain(texts(&["NATS/1.0\r\nA: b\r\nC:\td \r\n\r\n", "NATS/1.0 100 Idle\r\n\r\n"]))
        .collect()
}

pub(crate) fn info_seeds() -> Vec<Vec<u8>> {
    let long = r#"{"server_id":"S","server_name":"n","version":"2.11.0","go":"go1.24","host":"h",
        "port":4222,"headers":true,"auth_required":true,"tls_required":false,"tls_available":true,
        "max_payload":1048576,"proto":1,"nonce":"abc","ldm":false,"jetstream":true,"client_id":7,
        "client_ip":"127.0.0.1","cluster":"c","domain":"d",
        "connect_urls":["a:1","","[fe80::1]:2"]}"#;
    let infos = corpus().filter_map(|bytes| {
        let json = bytes.strip_prefix(b"INFO ")?.to_vec();
        Some(json)
    });
    infos.chain(texts(&[long])).collect()
}

pub(crate) fn login_seeds() -> Vec<Vec<u8>> {
    let info = "INFO {\"server_id\":\"A\",\"max_payload\":10}\r\n";
    let behind = [
        "",
        "PONG\r\n",
        "+OK\r\nPONG\r\n",
        "PING\r\nPING\r\nPONG\r\n",
        "INFO {}\r\nPONG\r\nPING\r\n",
        "-ERR 'Authorization Violation'\r\n",
        "MSG a 1 2\r\nhi\r\n",
        "PONG\r\nMSG a 1 2\r\nhi\r\n",
        "INFO {}\r\nINFO {}\r\n+OK\r\nPING\r\nPONG\r\n",
        "garbage\r\nPONG\r\n",
    ];
    let behind = behind.iter().map(|text| format!("{info}{text}").into_bytes());
    cut_differently(behind.chain(corpus().take(60)))
}

pub(crate) fn credentials_seeds() -> Vec<Vec<u8>> {
    let seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    let public = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    // `{"alg":"ed25519-nkey"}`, and the public key of the seed as `sub`.
    let jwt = "eyJhbGciOiJlZDI1NTE5LW5rZXkifQ.eyJzdWIiOiJVRFhVNFJDU0pOWk9JUUhaTldYSFhPUkRQUlRHTkp\
               BSEFIRlJHWk5FRUpDUFFUVDJNN05MQ05GNCJ9.c2lnbmVk";
    let file = format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    let turned = file.replace('\n', "\r\n");
    texts(&[&file, &turned, seed, public, jwt, "-----BEGIN USER NKEY SEED-----\n"])
}

pub(crate) fn url_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "nats://localhost:4222",
        "tls://a.b.c",
        "nats://u:p@h:1,nats://t@[fe80::1]:2",
        "h",
        "127.0.0.1",
        " a , b ,, c:9 ",
        "nats://us%65r:p%2f%40@host/",
        "[fe80::1%eth0]:4222",
        "nats://ü.example",
        "nats://a:b:c@h",
        "nats://u:p,w@h",
        "h:0",
        "h:70000",
        "x://h",
        "nats://h?q#f",
        "nats://@h",
        "nats://u:p@h:port",
        "u:pass/word@h",
        "nats://u:p\\@h",
        "nats:u:p@h",
        "a@b@c",
    ])
}

pub(crate) fn property_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "io.nats.client.servers=a,b\nio.nats.client.maxpings = 3\n",
        "# c\n! d\n\na\\ b : c\\\n  d\n",
        "a=\\u00fc\\ud83d\\ude00\n",
        "a\\=b=c\\\\\nk\t v\r\n\u{feff}x",
        "a=\\u12\n",
        "\\",
        "=",
        "a\\\r\nb=c",
    ])
}

pub(crate) fn client_seeds() -> Vec<Vec<u8>> {
    cut_differently(texts(&[
        "CONNECT {\"verbose\":false,\"user\":\"u\"}\r\nPING\r\n",
        "PUB a.b 2\r\nhi\r\nPONG\r\n",
        "PUB a r 0\r\n\r\n",
        "HPUB a r 18 20\r\nNATS/1.0\r\nN: v\r\n\r\nhi\r\n",
        "SUB a.> q 7\r\n",
        "SUB a 1\r\nUNSUB 1\r\nUNSUB 1 5\r\n",
        "PUB a 5\r\nhello world\r\n",
        "HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n",
    ]))
}

pub(crate) fn outgoing_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "a",
        "a.b.c",
        "a.*",
        "a.>",
        "a b",
        "a\r\nPUB x 0\r\n\r\n",
        "x\u{85}y",
        "\u{2028}",
        "a\"b\\",
        "",
        "SUBJECT\r\nPING",
        "grüße.日本",
        "a\0",
        "name: value",
        "a\t",
        " a ",
        "$SYS.REQ",
        "_INBOX.x.*",
    ])
}

/// WebSocket frames behind a number: data, parts of a message, a ping and a close.
pub(crate) fn websocket_seeds() -> Vec<Vec<u8>> {
    let mut long = vec![0x82, 126, 1, 0];
    long.extend([b'x'; 256]);
    let frames: [&[u8]; 6] = [
        b"\x82\x05PING\n\x82\x00",
        b"\x02\x03abc\x00\x01d\x80\x02ef",
        b"\x89\x02hi\x82\x01x\x8a\x00\x88\x02\x03\xe8",
        b"\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x01y",
        &long,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ];
    frames.iter().map(|frame| [&[7; 2], *frame].concat()).collect()
}
