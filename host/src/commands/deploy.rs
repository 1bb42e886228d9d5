//! `deploy`: a model and the program to boards; `status` and `rollback` of what is there.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};

use super::{human_bytes, out_text};
use crate::deploy::target::{check_prefix, read_inventory};
use crate::deploy::{self, Contents, Outcome, Package, Service, Settings, Target, TargetError, report};

/// Copies a model and the program to boards, verifies them there, installs the service, tries it, or goes back
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct DeployArgs {
    /// The model
    #[arg(value_name = "MODEL.vgg", required = true)]
    pub model: Option<PathBuf>,
    /// Which boards
    #[command(flatten)]
    pub fleet: FleetArgs,
    /// Program for the boards; again for another processor
    #[arg(long, value_name = "FILE", default_value = "target/board/classify")]
    pub program: Vec<PathBuf>,
    /// Key that the model must be signed with, here and at every start on the board
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,
    /// Picture that this machine and the boards must answer alike [default: the model's self-test]
    #[arg(long, value_name = "FILE")]
    pub picture: Option<PathBuf>,
    /// Address that the service listens on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// File with the token that requests must have
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Camera of the boards that the service shows
    #[arg(long, value_name = "DEVICE", value_parser = device)]
    pub camera: Option<String>,
    /// Broker that the service publishes to
    #[arg(long, value_name = "URL")]
    pub mqtt: Option<String>,
    /// One more argument of `classify serve`
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub serve_arg: Vec<String>,
    /// Releases that stay on a board
    #[arg(long, value_name = "N", default_value = "3")]
    pub keep: NonZeroUsize,
    /// Something else than deploying
    #[command(subcommand)]
    pub task: Option<DeployTask>,
}

/// What else can be done with boards.
#[derive(Subcommand, Clone, Debug)]
pub enum DeployTask {
    /// What is deployed, and whether it is healthy
    Status(FleetArgs),
    /// Back to the release before the running one
    Rollback(RollbackArgs),
}

/// `deploy rollback`.
#[derive(Args, Clone, Debug)]
pub struct RollbackArgs {
    /// Which boards
    #[command(flatten)]
    pub fleet: FleetArgs,
    /// The release to go to [default: the one before the running one]
    #[arg(long, value_name = "ID", value_parser = release_id)]
    pub to: Option<String>,
}

/// Which boards, and how to reach them.
#[derive(Args, Clone, Debug)]
pub struct FleetArgs {
    /// A board; again for more
    #[arg(long, value_name = "USER@HOST[:PORT]", value_parser = Target::parse)]
    pub host: Vec<Target>,
    /// File with a board a line: NAME USER@HOST[:PORT] [prefix=] [listen=] [sudo=] [service=]
    #[arg(long, value_name = "FILE")]
    pub inventory: Option<PathBuf>,
    /// An option for ssh, as in its configuration
    #[arg(long, value_name = "NAME=VALUE")]
    pub ssh_option: Vec<String>,
    /// Folder of the releases on the board; may start with ~/
    #[arg(long, value_name = "DIR", default_value = deploy::PREFIX, value_parser = check_prefix)]
    pub prefix: String,
    /// Change the board under sudo, which must not ask for a password
    #[arg(long)]
    pub sudo: bool,
    /// Files and the link only, no service: needs neither root nor systemd
    #[arg(long)]
    pub no_service: bool,
    /// Name of the systemd unit
    #[arg(long, value_name = "NAME", default_value = deploy::UNIT, value_parser = unit)]
    pub unit: String,
    /// Folder of systemd units on the board
    #[arg(long, value_name = "DIR", default_value = deploy::UNIT_DIR, value_parser = check_prefix)]
    pub unit_dir: String,
    /// Boards at a time
    #[arg(long, value_name = "N", default_value = "8")]
    pub jobs: NonZeroUsize,
    /// For one command or copy on a board
    #[arg(long, value_name = "SECONDS", default_value = "1800")]
    pub limit: u32,
    /// Until a service must be healthy
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub smoke_limit: u32,
    /// Look at the boards and say what would be done; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl DeployArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A model, program or list that is wrong, or a board where it failed.
    pub fn run(&self) -> anyhow::Result<()> {
        match &self.task {
            Some(DeployTask::Status(fleet)) => fleet.status(),
            Some(DeployTask::Rollback(rollback)) => rollback.run(),
            None => self.deploy(),
        }
    }

    fn deploy(&self) -> anyhow::Result<()> {
        let targets = self.fleet.targets()?;
        if self.token_file.is_some() && self.fleet.no_service {
            bail!("--token-file is the service's, and --no-service leaves none");
        }
        let package = Package::new(&Contents {
            model: self.model.clone().unwrap_or_default(),
            programs: self.program.clone(),
            public_key: self.public_key.clone(),
            token: self.token_file.clone(),
            picture: self.picture.clone(),
        })?;
        for program in &package.programs {
            let bytes = human_bytes(package.bytes(program));
            eprintln!("release: {} ({}) for {}, {bytes}", package.name, package.scheme, program.arch);
        }
        if package.has_unchecked_signature() {
            eprintln!("note: the model's signature goes along, but nobody checks it: pass --public-key");
        }
        let mut arguments: Vec<String> = Vec::new();
        if let Some(url) = &self.mqtt {
            arguments.extend(["--mqtt".to_owned(), url.clone()]);
        }
        arguments.extend(self.serve_arg.iter().cloned());
        let settings = Settings {
            keep: self.keep.get(),
            ..self.fleet.settings(self.listen, self.camera.clone(), arguments)
        };
        let outcomes = deploy::deploy(&targets, &package, &settings, &tell)?;
        self.fleet.finish(&outcomes, false)
    }
}

impl RollbackArgs {
    fn run(&self) -> anyhow::Result<()> {
        let targets = self.fleet.targets()?;
        let outcomes = deploy::rollback(&targets, self.to.as_deref(), &self.fleet.plain_settings(), &tell)?;
        self.fleet.finish(&outcomes, false)
    }
}

impl FleetArgs {
    fn status(&self) -> anyhow::Result<()> {
        let outcomes = deploy::status(&self.targets()?, &self.plain_settings(), &|_, _| {})?;
        self.finish(&outcomes, true)
    }

    fn targets(&self) -> Result<Vec<Target>, TargetError> {
        let mut targets = self.host.clone();
        if let Some(path) = &self.inventory {
            targets.extend(read_inventory(path)?);
        }
        deploy::target::check_targets(&targets)?;
        Ok(targets)
    }

    /// For what needs no new unit.
    fn plain_settings(&self) -> Settings {
        self.settings(SocketAddr::from(([127, 0, 0, 1], 8080)), None, Vec::new())
    }

    fn settings(&self, listen: SocketAddr, camera: Option<String>, arguments: Vec<String>) -> Settings {
        let service =
            Service { unit: self.unit.clone(), unit_dir: self.unit_dir.clone(), listen, camera, arguments };
        Settings {
            prefix: self.prefix.clone(),
            service: (!self.no_service).then_some(service),
            sudo: self.sudo,
            keep: 3,
            jobs: self.jobs.get(),
            dry_run: self.dry_run,
            ssh_options: self.ssh_option.clone(),
            limit: Duration::from_secs(self.limit.into()),
            smoke_limit: Duration::from_secs(self.smoke_limit.into()),
        }
    }

    /// Prints what came of it; a board that failed fails the command.
    fn finish(&self, outcomes: &[Outcome], is_status: bool) -> anyhow::Result<()> {
        match (self.json, is_status) {
            (true, _) => out_text(&report::json(outcomes, is_status))?,
            (false, true) => out_text(&report::status_table(outcomes))?,
            (false, false) => out_text(&report::table(outcomes))?,
        }
        let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.is_ok()).collect();
        match failed.as_slice() {
            [] => Ok(()),
            failed => {
                let names: Vec<&str> = failed.iter().map(|outcome| outcome.host.as_str()).collect();
                let text =
                    format!("{} of {} hosts failed: {}", failed.len(), outcomes.len(), names.join(", "));
                // The first failure's hint helps most.
                Err(match failed[0].error.as_ref().and_then(|error| hint(&error.problem)) {
                    Some(hint) => anyhow!(FleetError { text, hint }),
                    None => anyhow!(text),
                })
            }
        }
    }
}

/// Boards that failed, and what may help.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct FleetError {
    text: String,
    /// What may help.
    pub hint: &'static str,
}

/// What a user can do about a problem on a board.
fn hint(problem: &deploy::Problem) -> Option<&'static str> {
    use deploy::Problem;
    Some(match problem {
        Problem::Connect { why } if why.contains("Host key verification failed") => {
            "connect once with ssh and accept the board's key"
        }
        Problem::Connect { .. } => {
            "try `ssh USER@HOST` with the same options; keys and jump hosts go into ssh's configuration"
        }
        Problem::Remote { why, .. } if why.contains("a password is required") => {
            "let sudo run without a password there, or log in as root"
        }
        Problem::Remote { why, .. } if why.contains("Permission denied") || why.contains("cannot write") => {
            "pass --sudo, or --prefix ~/vgg-edge --no-service for a user without rights"
        }
        Problem::Init { .. } | Problem::Tool { tool: "systemctl", .. } => {
            "--no-service leaves files and the link only"
        }
        Problem::Space { .. } | Problem::Full { .. } => {
            "make room there, or pass --keep 1, or another --prefix"
        }
        Problem::Arch { found, .. } if found == "x86_64" => {
            "cargo xtask build --board x86-64, then pass --program target/board/classify"
        }
        Problem::Arch { .. } => "the program is for 64-bit systems: armv7l is a 32-bit one on a 64-bit board",
        Problem::Http { why, .. } if why.contains("administratively prohibited") => {
            "allow it with `AllowTcpForwarding local` in the board's sshd_config"
        }
        Problem::Busy { .. } => "wait for it; the lock goes with its connection",
        Problem::Differs { .. } => {
            "the board computes another answer; please report it with `classify verify` of the board"
        }
        Problem::Lost { .. } => "run the command again: what was copied is used",
        _ => return None,
    })
}

/// A line about a board, on standard error.
fn tell(host: &str, text: &str) {
    eprintln!("{host}: {text}");
}

/// A name of a unit, with its suffix.
fn unit(text: &str) -> Result<String, String> {
    let name = text.strip_suffix(".service").unwrap_or(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match !name.is_empty() && name.chars().all(plain) && !name.starts_with(['-', '.']) {
        true => Ok(format!("{name}.service")),
        false => Err("expected letters, digits and any of _ - .".to_owned()),
    }
}

/// A name of a release.
fn release_id(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    match !text.is_empty() && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("expected a name that `status` shows, of letters, digits and -".to_owned()),
    }
}

/// A device below /dev.
fn device(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_-.:".contains(c);
    match text.starts_with("/dev/") && text.chars().all(plain) && !text.contains("..") {
        true => Ok(text.to_owned()),
        false => Err("expected a path below /dev/".to_owned()),
    }
}
