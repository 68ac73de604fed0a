//! Prints the options that a properties file and the environment make together, without a secret.
//!
//! ```text
//! cargo run --example options --features testing -- [--server URL] [FILE]
//! ```
//!
//! The file has the keys of the Java client; without one a few lines of our own are read. Variables
//! such as `NATS_URL` win over the file; `--server` adds a server. Nothing is connected to.

use std::error::Error;

use nats_blocking::Options;

mod support;
use support::{Arguments, say};

const TEXT: &str = "
# Lines that begin otherwise belong to others who share the file.
io.nats.client.url            = nats://localhost:4222
io.nats.client.name           = an example
io.nats.client.username       = joe
io.nats.client.password       = never shown
io.nats.client.reconnect.wait = PT0.5S
io.nats.client.noecho         = true
log.level                     = info
";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    // An error names the line, the key or the variable, and what was expected.
    let mut builder = match arguments.words.first() {
        Some(path) => Options::from_properties_file(path)?,
        None => Options::from_properties(TEXT)?,
    };
    builder = builder.environment()?;
    if let Some(url) = &arguments.server {
        builder = builder.server(url);
    }
    say(format!("{:#?}", builder.build()?));
    Ok(())
}
