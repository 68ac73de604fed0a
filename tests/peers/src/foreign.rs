//! The programs behind the peers: this one, and clients in other languages that are compiled when
//! they are wanted and their compiler is there.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::plan::Result;

/// How to start a cell of a peer.
#[derive(Debug, Clone)]
pub struct Program {
    pub name: String,
    pub path: PathBuf,
    /// Arguments before those of the plan.
    pub first: Vec<String>,
    pub environment: Vec<(String, String)>,
}

impl Program {
    /// A peer that is part of this program.
    pub fn own(name: &str) -> Result<Self> {
        let path = env::current_exe()?;
        let first = vec!["child".to_owned()];
        Ok(Self { name: name.to_owned(), path, first, environment: Vec::new() })
    }

    /// The C client, if its header is found: `NATS_C=folder` names a tree with `include` and `lib`,
    /// otherwise where the system keeps them.
    pub fn c() -> Result<Self> {
        let built = folder()?.join("peer-c");
        let mut compile = Command::new("cc");
        compile.args(["-O3", "-o"]).arg(&built).arg(source("c/client.c"));
        let mut environment = Vec::new();
        if let Some(tree) = env::var_os("NATS_C") {
            let tree = PathBuf::from(tree);
            let library = tree.join("lib/x86_64-linux-gnu");
            let library = if library.is_dir() { library } else { tree.join("lib") };
            compile.arg("-I").arg(tree.join("include")).arg("-L").arg(&library);
            // What the library itself needs lies beside it.
            compile.arg("-Wl,--allow-shlib-undefined");
            let path = library.to_string_lossy().into_owned();
            environment.push(("LD_LIBRARY_PATH".to_owned(), path));
        }
        compile.args(["-lnats", "-lpthread"]);
        finished(&mut compile, "the C client (Debian package libnats-dev)")?;
        Ok(Self { name: "c".to_owned(), path: built, first: Vec::new(), environment })
    }

    /// Go's client, if there is a toolchain (`GO=program`, else `go`) that has its modules or can
    /// get them. `GOFLAGS` is the caller's, for modules that lie elsewhere.
    pub fn go() -> Result<Self> {
        let built = folder()?.join("peer-go");
        let flags = env::var("GOFLAGS").unwrap_or_default();
        let mut compile = Command::new(env::var_os("GO").unwrap_or_else(|| "go".into()));
        // The hashes of the modules are left to the toolchain: its file is not kept here.
        let flags = format!("{flags} -mod=mod");
        compile.current_dir(source("go")).args(["build", "-o"]).arg(&built).arg(".");
        compile.env("GOFLAGS", flags.trim());
        finished(&mut compile, "Go's client (a Go toolchain and its modules)")?;
        Ok(Self { name: "go".to_owned(), path: built, first: Vec::new(), environment: Vec::new() })
    }
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Beside this program.
fn folder() -> Result<PathBuf> {
    Ok(env::current_exe()?.parent().ok_or("no folder")?.to_owned())
}

fn finished(compile: &mut Command, what: &str) -> Result<()> {
    let output = compile.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("without {what}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let telling = |line: &&str| line.contains("error") || line.starts_with("go: ");
    let line = text.lines().find(telling).unwrap_or_default();
    Err(format!("without {what}: {line}").into())
}
