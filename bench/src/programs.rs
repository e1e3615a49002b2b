//! Builds what is measured: the gateway with cargo, the peers into the cache.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Why a program is not there.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("{program}: run `{command}`: {cause}")]
    Start {
        program: Peer,
        command: String,
        cause: io::Error,
    },
    #[error("{program}: `{command}` failed\n{output}")]
    Failed {
        program: Peer,
        command: String,
        output: String,
    },
    #[error("{program}: {path}: {cause}")]
    File {
        program: Peer,
        path: PathBuf,
        cause: io::Error,
    },
    #[error("{program}: cargo named no program")]
    NoProgram { program: Peer },
    #[error("{program}: PEERS= names no folder that holds uWebSockets and uSockets")]
    NotCheckedOut { program: Peer },
}

/// Whom a figure belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Gateway,
    RawEpoll,
    Ws,
    Go,
    UWebSockets,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Peer {
    /// As the figures name it.
    pub const fn name(self) -> &'static str {
        match self {
            Peer::Gateway => "gateway",
            Peer::RawEpoll => "raw-epoll",
            Peer::Ws => "ws (npm)",
            Peer::Go => "go (gorilla)",
            Peer::UWebSockets => "uWebSockets",
        }
    }
}

/// What is started: program and arguments.
#[derive(Debug, Clone)]
pub struct Program {
    pub peer: Peer,
    pub path: PathBuf,
    pub args: Vec<PathBuf>,
}

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The root of the repository.
    pub root: PathBuf,
    /// What is built for peers is kept here.
    pub cache: PathBuf,
    /// Holds uWebSockets and uSockets.
    pub checkouts: Option<PathBuf>,
    /// A gateway that exists, instead of one that is built.
    pub gateway: Option<PathBuf>,
}

impl Places {
    /// Builds the program if it is not up to date. May take minutes.
    pub fn program(&self, peer: Peer) -> Result<Program, BuildError> {
        let (path, args) = match peer {
            Peer::Gateway => (self.gateway()?, vec![]),
            Peer::RawEpoll => {
                let own = std::env::current_exe().map_err(file(peer, Path::new("bench")))?;
                (own, vec!["floor".into()])
            }
            Peer::Ws => ("node".into(), vec![self.ws()?]),
            Peer::Go => (self.go()?, vec![]),
            Peer::UWebSockets => (self.uwebsockets()?, vec![]),
        };
        Ok(Program { peer, path, args })
    }

    fn gateway(&self) -> Result<PathBuf, BuildError> {
        let peer = Peer::Gateway;
        if let Some(path) = &self.gateway {
            return Ok(path.clone());
        }
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root).args([
            "build",
            "--release",
            "--locked",
            "--package=gateway",
            "--message-format=json-render-diagnostics",
        ]);
        // Cargo tells of its progress on standard error.
        let messages = run(peer, cargo.stderr(Stdio::inherit()))?;
        messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == "gateway")
            .find_map(|message| Some(message["executable"].as_str()?.into()))
            .ok_or(BuildError::NoProgram { program: peer })
    }

    fn ws(&self) -> Result<PathBuf, BuildError> {
        let peer = Peer::Ws;
        let folder = self.folder(peer, "ws")?;
        for name in ["package.json", "server.js"] {
            self.copy(peer, &format!("ws/{name}"), &folder.join(name))?;
        }
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--prefer-offline",
        ]);
        run(peer, npm.current_dir(&folder))?;
        Ok(folder.join("server.js"))
    }

    fn go(&self) -> Result<PathBuf, BuildError> {
        let program = self.folder(Peer::Go, "go")?.join("server");
        let mut go = Command::new("go");
        go.current_dir(self.sources().join("go"))
            .args(["build", "-o"])
            .arg(&program)
            .arg(".");
        run(Peer::Go, &mut go)?;
        Ok(program)
    }

    fn uwebsockets(&self) -> Result<PathBuf, BuildError> {
        let peer = Peer::UWebSockets;
        let missing = || BuildError::NotCheckedOut { program: peer };
        let checkouts = self.checkouts.as_ref().ok_or_else(missing)?;
        let (sockets, websockets) = (
            checkouts.join("uSockets/src"),
            checkouts.join("uWebSockets/src"),
        );
        if !websockets.join("App.h").exists() || !sockets.join("libusockets.h").exists() {
            return Err(missing());
        }
        let folder = self.folder(peer, "uws")?;
        let flags = ["-O3", "-march=native", "-DLIBUS_NO_SSL"];
        let mut cc = Command::new("cc");
        cc.current_dir(&folder).args(flags).arg("-c").arg("-I");
        cc.arg(&sockets)
            .args(c_files(peer, &sockets)?)
            .arg(sockets.join("eventing/epoll_kqueue.c"));
        run(peer, &mut cc)?;
        let mut cxx = Command::new("c++");
        cxx.current_dir(&folder)
            .args(flags)
            .args(["-std=c++20", "-DUWS_NO_ZLIB", "-I"])
            .arg(&sockets)
            .arg("-I")
            .arg(&websockets)
            .arg(self.sources().join("uws/server.cpp"))
            .args(object_files(peer, &folder)?)
            .args(["-o", "server"]);
        run(peer, &mut cxx)?;
        Ok(folder.join("server"))
    }

    fn sources(&self) -> PathBuf {
        self.root.join("bench/peers")
    }

    fn folder(&self, peer: Peer, name: &str) -> Result<PathBuf, BuildError> {
        let folder = self.cache.join("bench-peers").join(name);
        std::fs::create_dir_all(&folder).map_err(file(peer, &folder))?;
        Ok(folder)
    }

    fn copy(&self, peer: Peer, from: &str, to: &Path) -> Result<(), BuildError> {
        let from = self.sources().join(from);
        std::fs::copy(&from, to).map_err(file(peer, &from))?;
        Ok(())
    }
}

fn file(program: Peer, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    let path = path.to_owned();
    move |cause| BuildError::File {
        program,
        path,
        cause,
    }
}

fn c_files(peer: Peer, folder: &Path) -> Result<Vec<PathBuf>, BuildError> {
    files(peer, folder, "c")
}

fn object_files(peer: Peer, folder: &Path) -> Result<Vec<PathBuf>, BuildError> {
    files(peer, folder, "o")
}

fn files(peer: Peer, folder: &Path, extension: &str) -> Result<Vec<PathBuf>, BuildError> {
    let entries = std::fs::read_dir(folder).map_err(file(peer, folder))?;
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension() == Some(OsStr::new(extension)))
        .collect())
}

/// Runs to the end; what it wrote to standard output.
fn run(program: Peer, command: &mut Command) -> Result<String, BuildError> {
    let shown = || command_line(command);
    let shown = shown();
    let output = command.output().map_err(|cause| BuildError::Start {
        program,
        command: shown.clone(),
        cause,
    })?;
    if !output.status.success() {
        return Err(BuildError::Failed {
            program,
            command: shown,
            output: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
