//! The steps on one board, in order; what each found, and how long it took.
//!
//! ```text
//! Board::connect ─► probe ─► Board { facts } ─► deploy: copy .. prune      rollback: switch, smoke      status
//! ```

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use serde::Deserialize;

use super::answer::Answer;
use super::error::{DeployError, Problem, Step};
use super::http::Service as HttpService;
use super::package::{Package, Program};
use super::probe::{self, Facts};
use super::release::{self, Switch};
use super::report::{Ended, Outcome};
use super::shell::Script;
use super::ssh::{Held, Ssh, SshOptions, says_full};
use super::target::check_prefix;
use super::unit::{Bounds, Unit, local_address};
use super::{Settings, Target};
use crate::boards;

/// A line about a board, for people.
pub(crate) type Say<'a> = &'a (dyn Fn(&str) + Sync);

/// A board that is worked on.
pub(crate) struct Board<'a> {
    settings: Settings,
    say: Say<'a>,
    outcome: &'a mut Outcome,
}

/// What `classify info --board --json MODEL` says.
#[derive(Deserialize)]
struct About {
    kernels: Vec<String>,
    memory_bytes: Option<u64>,
    model: Needs,
}

#[derive(Deserialize)]
struct Needs {
    arena_bytes: u64,
    mapped_bytes: u64,
    repacked_bytes: u64,
}

impl<'a> Board<'a> {
    pub(crate) fn new(target: &Target, settings: &Settings, say: Say<'a>, outcome: &'a mut Outcome) -> Self {
        Self { settings: settings.of(target), say, outcome }
    }

    /// Does one step and notes its time.
    fn step<T>(
        &mut self,
        step: Step,
        work: impl FnOnce(&mut Self) -> Result<T, Problem>,
    ) -> Result<T, DeployError> {
        let began = Instant::now();
        let result = work(self);
        self.outcome.steps.push((step, began.elapsed().as_secs_f64(), result.is_ok()));
        result.map_err(|problem| DeployError { step, problem })
    }

    fn note(&mut self, text: String) {
        (self.say)(&text);
        self.outcome.notes.push(text);
    }

    fn connect(&mut self, target: &Target, batch: bool) -> Result<Ssh, DeployError> {
        self.step(Step::Connect, |board| {
            let Settings { ssh_options, limit, sudo, .. } = &board.settings;
            let options = SshOptions { options: ssh_options.clone(), batch, limit: *limit };
            Ssh::connect(target, &options, *sudo)
        })
    }

    /// Asks what the board is; from here on the prefix is absolute.
    fn probe(&mut self, ssh: &Ssh) -> Result<Facts, DeployError> {
        self.step(Step::Probe, |board| {
            let facts = Facts::parse(&ssh.look(&probe::script(&board.settings.prefix))?)?;
            // A home folder may have another name than a prefix.
            check_prefix(&facts.prefix).map_err(|_| Problem::Answer {
                what: "folder for releases",
                found: facts.prefix.clone(),
                expected: "letters, digits and any of / . _ - +",
            })?;
            board.settings.prefix.clone_from(&facts.prefix);
            board.outcome.board = facts.title();
            board.outcome.previous = Some(facts.current.clone()).filter(|id| !id.is_empty());
            (board.say)(&format!(
                "{}, {}, {}, {} MB free",
                facts.title(),
                facts.arch,
                facts.kernel,
                facts.free_kb / 1024
            ));
            Ok(facts)
        })
    }

    /// Whether the board can take the release.
    fn check_room(&mut self, facts: &Facts, package: &Package, program: &Program) -> Result<(), DeployError> {
        let problem = |problem| Err(DeployError { step: Step::Probe, problem });
        if !facts.has("sha256sum") {
            return problem(Problem::Tool { tool: "sha256sum", why: "checks what was copied" });
        }
        if self.settings.sudo && !facts.has("sudo") {
            return problem(Problem::Tool { tool: "sudo", why: "--sudo asks for" });
        }
        if self.settings.service.is_some() && facts.init != "systemd" {
            return problem(Problem::Init { found: facts.init.clone() });
        }
        let need = package.bytes(program).div_ceil(1024);
        if facts.free_kb < need {
            let folder = facts.prefix.clone();
            return problem(Problem::Space { folder, free: facts.free_kb, need });
        }
        let found = facts.board();
        let planned = package.planned_for.as_deref().and_then(boards::board);
        if let (Some(planned), Some(board)) = (planned, found.board)
            && planned.name != "generic"
            && planned.core.name != board.core.name
        {
            self.note(format!(
                "warning: {} was planned for {}, this is {}: the answers are the same, the speed is not; quantize with \
                 --board {}",
                package.name,
                planned.name,
                facts.title(),
                board.name
            ));
        }
        Ok(())
    }

    /// Takes the lock for as long as the value lives.
    fn lock(&mut self, ssh: &Ssh, facts: &Facts) -> Result<Option<Held>, Problem> {
        if !facts.has("flock") {
            self.note("note: the board has no flock, so nothing keeps another deployment away".to_owned());
            return Ok(None);
        }
        match ssh.hold(&release::lock_command(&facts.prefix), release::LOCKED)? {
            Some(held) => Ok(Some(held)),
            None => Err(Problem::Busy { folder: facts.prefix.clone() }),
        }
    }

    /// Everything, for one board.
    pub(crate) fn deploy(
        &mut self,
        target: &Target,
        package: &Package,
        batch: bool,
    ) -> Result<(), DeployError> {
        let ssh = self.connect(target, batch)?;
        let facts = self.probe(&ssh)?;
        let program = package
            .program(&facts.arch)
            .map_err(|problem| DeployError { step: Step::Probe, problem })?
            .clone();
        self.check_room(&facts, package, &program)?;
        let id = package.release_id(&program, SystemTime::now());
        self.outcome.release = Some(id.clone());
        if self.settings.dry_run {
            self.plan(&facts, package, &program, &id);
            self.outcome.ended = Ended::Planned;
            return Ok(());
        }
        let held = self.step(Step::Copy, |board| board.copy(&ssh, &facts, package, &program, &id))?;
        self.step(Step::Checksum, |board| ssh.change(&release::checksum(&board.settings.prefix)).map(drop))?;
        let about = self.step(Step::Verify, |board| board.verify(&ssh, package))?;
        let before = self.step(Step::Switch, |board| board.install(&ssh, package, &about, &id))?;
        self.smoke(&ssh, package.token(), package.picture(), &package.answer, (&id, &before, true))?;
        // The new release runs: what is old does no harm.
        if let Err(error) = self.step(Step::Prune, |board| board.prune(&ssh)) {
            self.note(format!("warning: old releases stay: {error}"));
        }
        drop(held);
        self.outcome.ended = Ended::Done;
        Ok(())
    }

    fn copy(
        &mut self,
        ssh: &Ssh,
        facts: &Facts,
        package: &Package,
        program: &Program,
        id: &str,
    ) -> Result<Option<Held>, Problem> {
        let listen = self.settings.service.as_ref().map(|service| service.listen);
        let staged = package
            .stage(program, id, listen)
            .map_err(|error| Problem::Local(format!("release {id}: {error:#}")))?;
        let rsync = facts.has("rsync") && has_rsync();
        // Before the lock: its file lies in the folder.
        ssh.change(&release::prepare(&facts.prefix, true))?;
        let held = self.lock(ssh, facts)?;
        ssh.change(&release::prepare(&facts.prefix, rsync))?;
        let upload = format!("{}/.upload", facts.prefix);
        let like = format!("{}/current", facts.prefix);
        let copied = match rsync {
            true => {
                let like = Some(like.as_str()).filter(|_| !facts.current.is_empty());
                ssh.rsync(staged.folder.path(), &upload, like)
            }
            false => staged.files.iter().try_for_each(|name| {
                ssh.write(&staged.folder.path().join(name), &format!("{upload}/{name}"))
            }),
        };
        match copied {
            Ok(()) => Ok(held),
            // What the user waits for again is not thrown away, unless it fills the disk.
            Err(Problem::Remote { why, .. }) if says_full(why.as_bytes()) => {
                let said = ssh.change(&release::clean(&facts.prefix))?.0;
                let free = values(&said).get("free").and_then(|free| free.parse().ok()).unwrap_or(0);
                Err(Problem::Full { why, folder: facts.prefix.clone(), free })
            }
            Err(problem) => Err(problem),
        }
    }

    /// Signature, self-test, what the model takes, and one answer, by the program on the board.
    fn verify(&mut self, ssh: &Ssh, package: &Package) -> Result<About, Problem> {
        let script = release::verify(&self.settings.prefix, package.is_signed());
        let (said, warnings) = ssh.change(&script)?;
        for line in warnings.lines().filter(|line| line.starts_with("warning: ")) {
            self.note(line.to_owned());
        }
        let values = values(&said);
        let about = values.get("about").copied().unwrap_or_default();
        let about: About = serde_json::from_str(about).map_err(|_| Problem::Answer {
            what: "`classify info --board`",
            found: about.to_owned(),
            expected: "kernels and what the model takes",
        })?;
        self.outcome.kernel = about.kernels.first().cloned().unwrap_or_default();
        let differs = |why| Problem::Differs { what: "`classify run` on the board", why };
        let answer = Answer::parse(values.get("answer").copied().unwrap_or_default())
            .map_err(|error| differs(format!("{error:#}")))?;
        package.answer.check(&answer).map_err(differs)?;
        Ok(about)
    }

    /// Makes the copy a release, and runs it; the release that ran before.
    fn install(&mut self, ssh: &Ssh, package: &Package, about: &About, id: &str) -> Result<String, Problem> {
        let Needs { arena_bytes, mapped_bytes, repacked_bytes } = about.model;
        let model_bytes = arena_bytes.saturating_add(mapped_bytes).saturating_add(repacked_bytes);
        let total = |bounds: Bounds| model_bytes.saturating_add(bounds.bytes());
        let memory = about.memory_bytes.unwrap_or(u64::MAX);
        let bounds = if total(Bounds::ROOMY) <= memory / 2 { Bounds::ROOMY } else { Bounds::SMALL };
        if self.settings.service.is_some() && total(bounds) > memory {
            return Err(Problem::Memory { need: total(bounds) >> 20, found: memory >> 20 });
        }
        let unit = self.settings.service.as_ref().map(|service| {
            Unit {
                prefix: &self.settings.prefix,
                model: &package.name,
                listen: service.listen,
                signed: package.is_signed(),
                token: package.token().is_some(),
                camera: service.camera.as_deref(),
                arguments: &service.arguments,
                bounds,
                model_bytes,
            }
            .text()
        });
        let script = self.switch().install(id, unit.as_deref().unwrap_or_default());
        let said = self.change_running(ssh, &script)?;
        self.switched(&said)
    }

    /// Runs a script that changes what runs: when nothing comes back, what runs is not known.
    fn change_running(&mut self, ssh: &Ssh, script: &Script) -> Result<String, Problem> {
        ssh.change(script).map(|ran| ran.0).inspect_err(|problem| {
            if matches!(problem, Problem::Lost { .. } | Problem::TimedOut { .. }) {
                self.outcome.ended = Ended::Unknown;
            }
        })
    }

    /// What a switch said: the release that ran before.
    fn switched(&mut self, said: &str) -> Result<String, Problem> {
        let values = values(said);
        let value = |key: &str| values.get(key).map_or("", |value| value.trim()).to_owned();
        let before = value("before");
        if value("started") == "yes" {
            return Ok(before);
        }
        let why = [value("why"), value("log")].into_iter().filter(|part| !part.is_empty());
        let why = why.collect::<Vec<_>>().join("; ");
        self.went_back(&value("restored"));
        let unit = self.settings.service.as_ref().map_or("the release", |service| &service.unit).to_owned();
        Err(Problem::Service { unit, why })
    }

    /// Notes what runs after a failure.
    fn went_back(&mut self, restored: &str) {
        self.outcome.ended = match restored {
            "" | "failed" => Ended::Broken,
            "none" => Ended::Removed,
            _ => Ended::WentBack,
        };
    }

    fn switch(&self) -> Switch<'_> {
        let service = self.settings.service.as_ref();
        Switch {
            prefix: &self.settings.prefix,
            service: service.map(|service| (service.unit.as_str(), service.unit_dir.as_str())),
        }
    }

    /// Health and one answer over HTTP; a failure goes back to `before`, and removes `id` if it is fresh.
    fn smoke(
        &mut self,
        ssh: &Ssh,
        token: Option<&str>,
        picture: &[u8],
        answer: &Answer,
        (id, before, fresh): (&str, &str, bool),
    ) -> Result<(), DeployError> {
        let Some(listen) = self.settings.service.as_ref().map(|service| service.listen) else {
            return Ok(());
        };
        self.step(Step::Smoke, |board| {
            let service = HttpService { ssh, address: local_address(listen), token };
            let tried = service
                .wait_until_healthy(board.settings.smoke_limit)
                .and_then(|()| service.check_answer(picture, answer));
            let Err(problem) = tried else { return Ok(()) };
            let script = board.switch().undo(id, before, fresh);
            match board.change_running(ssh, &script) {
                Ok(said) => {
                    let restored = values(&said).get("restored").map_or("", |value| value.trim()).to_owned();
                    board.went_back(&restored);
                }
                Err(Problem::Lost { .. } | Problem::TimedOut { .. }) => {}
                Err(_) => board.outcome.ended = Ended::Broken,
            }
            Err(problem)
        })
    }

    fn prune(&mut self, ssh: &Ssh) -> Result<(), Problem> {
        let said = ssh.change(&release::prune(&self.settings.prefix, self.settings.keep))?.0;
        for id in said.lines().filter_map(|line| line.strip_prefix("pruned=")) {
            (self.say)(&format!("removed release {id}"));
        }
        Ok(())
    }

    /// What would be done.
    fn plan(&mut self, facts: &Facts, package: &Package, program: &Program, id: &str) {
        let Settings { prefix, sudo, keep, service, .. } = &self.settings;
        let by = if *sudo { ", under sudo" } else { "" };
        let how = if facts.has("rsync") && has_rsync() { "rsync" } else { "ssh" };
        let kb = package.bytes(program).div_ceil(1024);
        let key = if package.is_signed() { "signature, " } else { "" };
        let mut lines = vec![
            format!(
                "would copy {} and {}, {kb} kB, to {prefix}/.upload with {how}{by}",
                program.path.display(),
                package.name
            ),
            "would check the SHA-256 of every file there".to_owned(),
            format!("would check {key}self-test and one answer there"),
            format!("would make it {prefix}/releases/{id}, and link {prefix}/current to it"),
        ];
        match service {
            Some(service) => {
                lines.push(format!("would install {}/{}, and restart it", service.unit_dir, service.unit));
                lines.push(format!(
                    "would ask http://{} for its health and one answer",
                    local_address(service.listen)
                ));
                match facts.current.as_str() {
                    "" => lines.push("would remove the service again if that fails".to_owned()),
                    current => lines.push(format!("would go back to {current} if that fails")),
                }
            }
            None => lines.push("would start no service".to_owned()),
        }
        lines.push(format!("would keep {keep} releases"));
        lines.iter().for_each(|line| (self.say)(line));
    }

    /// Back to the release before the running one, or to `id`.
    pub(crate) fn rollback(
        &mut self,
        target: &Target,
        id: Option<&str>,
        batch: bool,
    ) -> Result<(), DeployError> {
        let ssh = self.connect(target, batch)?;
        let facts = self.probe(&ssh)?;
        let before = facts.current.clone();
        if self.settings.dry_run {
            let to = id.unwrap_or("the release before it");
            (self.say)(&format!("would go from {before} to {to}, and try it"));
            self.outcome.ended = Ended::Planned;
            return Ok(());
        }
        let (held, to) = self.step(Step::Switch, |board| {
            let no_previous =
                || Problem::NoPrevious { folder: facts.prefix.clone(), current: before.clone() };
            if before.is_empty() {
                return Err(no_previous());
            }
            let held = board.lock(&ssh, &facts)?;
            let script = board.switch().to(id);
            let said = board.change_running(&ssh, &script)?;
            if values(&said).contains_key("missing") {
                return Err(no_previous());
            }
            board.outcome.release = values(&said).get("id").map(|id| (*id).to_owned());
            board.switched(&said)?;
            Ok((held, board.outcome.release.clone().unwrap_or_default()))
        })?;
        // The release says itself how it is tried.
        let read = |name: &str| ssh.change(&release::read(&facts.prefix, name)).map(|ran| ran.0);
        let problem = |problem| DeployError { step: Step::Smoke, problem };
        let said = read("release.json").map_err(problem)?;
        let release: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        let listen = release["listen"].as_str().and_then(|listen| listen.parse().ok());
        match (listen, &mut self.settings.service) {
            (Some(listen), Some(service)) => service.listen = listen,
            (None, service) => *service = None,
            _ => {}
        }
        if self.settings.service.is_some() {
            let answer = read("answer.json").map_err(problem)?;
            let answer = Answer::parse(&answer).map_err(|error| {
                problem(Problem::Differs { what: "answer.json", why: format!("{error:#}") })
            })?;
            let picture = ssh.bytes(&release::read(&facts.prefix, "picture")).map_err(problem)?;
            let token = match release["token"].as_bool() {
                Some(true) => Some(read("token").map_err(problem)?),
                _ => None,
            };
            self.smoke(&ssh, token.as_deref(), &picture, &answer, (&to, &before, false))?;
        }
        drop(held);
        self.outcome.ended = Ended::Done;
        Ok(())
    }

    /// What is deployed, and whether it is healthy.
    pub(crate) fn status(&mut self, target: &Target, batch: bool) -> Result<(), DeployError> {
        let ssh = self.connect(target, batch)?;
        self.probe(&ssh)?;
        self.step(Step::Smoke, |board| {
            let unit = board.settings.service.as_ref().map_or("", |service| &service.unit);
            let said = ssh.change(&release::status(&board.settings.prefix, unit))?.0;
            let values = values(&said);
            let value = |key: &str| values.get(key).map_or("", |value| value.trim()).to_owned();
            let release: serde_json::Value = serde_json::from_str(&value("release")).unwrap_or_default();
            board.outcome.release = Some(value("current")).filter(|id| !id.is_empty());
            board.outcome.previous = Some(value("previous")).filter(|id| !id.is_empty());
            let outcome = &mut board.outcome;
            outcome.model = release["model"].as_str().unwrap_or_default().to_owned();
            outcome.service = value("service");
            outcome.restarts = value("restarts").parse().ok();
            outcome.memory_bytes = value("memory").parse().ok();
            outcome.releases = value("releases").split_whitespace().map(str::to_owned).collect();
            outcome.ended = Ended::Done;
            let listen = release["listen"].as_str().and_then(|listen| listen.parse().ok());
            if let (Some(listen), false) = (listen, outcome.service.is_empty()) {
                let service = HttpService { ssh: &ssh, address: local_address(listen), token: None };
                let healthy = service.wait_until_healthy(std::time::Duration::ZERO);
                outcome.healthy = Some(healthy.is_ok());
                if healthy.is_err() {
                    outcome.ended = Ended::Failed;
                }
                return healthy;
            }
            Ok(())
        })
    }
}

/// `key=value` lines.
fn values(said: &str) -> BTreeMap<&str, &str> {
    said.lines().filter_map(|line| line.split_once('=')).collect()
}

/// Whether this machine has rsync.
fn has_rsync() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("rsync").is_file())
}
