//! The command tree and its dispatch; `completions`, which needs the tree.

mod verbs;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::env::Shells;

use crate::args::{GlobalArgs, Session};
use crate::commands;
use crate::term::Exit;
use crate::text::{plugin, program};

/// Create, check and watch OpenChoreo planes, and issue their agents' certificates
///
/// A plane, such as a ClusterBuildPlane, registers a cluster with the control plane. An agent in that cluster (the plane's
/// cluster) connects to the control plane's cluster gateway over mutual TLS. choreoctl registers planes, and finds out why
/// an agent is not connected.
#[derive(Parser, Debug)]
#[command(
    name = "choreoctl",
    version,
    propagate_version = false,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
#[command(
    after_help = "Exit codes: 0 success or yes; 1 no (invalid, unhealthy, different, expiring); 2 error or unknown; 3 plane not found;\n124 timeout; 130 interrupted; 143 terminated"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    Create(commands::create::Args),
    Apply(commands::apply::Args),
    Diff(commands::diff::Args),
    Delete(commands::delete::Args),
    Validate(commands::validate::Args),
    Migrate(commands::migrate::Args),
    #[command(visible_alias = "list")]
    Get(commands::get::Args),
    Describe(commands::describe::Args),
    Bootstrap(Box<commands::bootstrap::Args>),
    Status(commands::status::Args),
    Unregister(commands::unregister::Args),
    Doctor(commands::doctor::Args),
    Forecast(commands::forecast::Args),
    Timeline(commands::timeline::Args),
    Dump(commands::dump::Args),
    Logs(commands::logs::Args),
    Restart(commands::restart::Args),
    Watch(commands::watch::Args),
    Wait(commands::wait::Args),
    Certs(commands::certs::Args),
    Crd(commands::crd::Args),
    Config(commands::config::Args),
    #[command(visible_alias = "completion")]
    Completions(CompletionsArgs),
    Version(commands::version::Args),
}

/// Returns the command tree. Its usage and examples name the program as it was called: `kubectl choreo` for a plugin.
pub fn command() -> clap::Command {
    match plugin() {
        Some(plugin) => as_plugin(Cli::command().bin_name(plugin)),
        None => Cli::command(),
    }
}

fn as_plugin(command: clap::Command) -> clap::Command {
    let examples = command.get_after_help().map(|text| program(&text.ansi().to_string()).into_owned());
    let command = command.mut_subcommands(as_plugin);
    match examples {
        Some(examples) => command.after_help(examples),
        None => command,
    }
}

/// Reads the command line.
pub fn parse() -> Result<Cli, clap::Error> {
    let mut command = command();
    let read = command.try_get_matches_from_mut(std::env::args_os());
    let read = read.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    read.map_err(|error| {
        let line: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        verbs::with_tip(error.format(&mut command), &line)
    })
}

pub async fn run(command: Command, session: &Session) -> anyhow::Result<Exit> {
    match command {
        Command::Create(args) => commands::create::run(args, session).await,
        Command::Apply(args) => commands::apply::run(args, session).await,
        Command::Diff(args) => commands::diff::run(args, session).await,
        Command::Delete(args) => commands::delete::run(args, session).await,
        Command::Validate(args) => commands::validate::run(args, session).await,
        Command::Migrate(args) => commands::migrate::run(args, session).await,
        Command::Get(args) => commands::get::run(args, session).await,
        Command::Describe(args) => commands::describe::run(args, session).await,
        Command::Bootstrap(args) => commands::bootstrap::run(*args, session).await,
        Command::Status(args) => commands::status::run(args, session).await,
        Command::Unregister(args) => commands::unregister::run(args, session).await,
        Command::Doctor(args) => commands::doctor::run(args, session).await,
        Command::Forecast(args) => commands::forecast::run(args, session).await,
        Command::Timeline(args) => commands::timeline::run(args, session).await,
        Command::Dump(args) => commands::dump::run(args, session).await,
        Command::Logs(args) => commands::logs::run(args, session).await,
        Command::Restart(args) => commands::restart::run(args, session).await,
        Command::Watch(args) => commands::watch::run(args, session).await,
        Command::Wait(args) => commands::wait::run(args, session).await,
        Command::Certs(args) => commands::certs::run(args, session).await,
        Command::Crd(args) => commands::crd::run(&args, session),
        Command::Config(args) => commands::config::run(args, session).await,
        Command::Completions(args) => completions(&args, session),
        Command::Version(args) => commands::version::run(args, session).await,
    }
}

/// Print a shell completion script
///
/// The script completes names of planes from the cluster that the command line selects, and contexts from the kubeconfig.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  source <(choreoctl completions bash)
  choreoctl completions fish > ~/.config/fish/completions/choreoctl.fish")]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
    Elvish,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
            Self::Powershell => "powershell",
            Self::Elvish => "elvish",
        }
    }
}

fn completions(args: &CompletionsArgs, session: &Session) -> anyhow::Result<Exit> {
    session.term.bytes(&script(args.shell)?)?;
    Ok(Exit::Done)
}

/// The script that a shell sources. It calls the program back for the candidates.
fn script(shell: Shell) -> anyhow::Result<Vec<u8>> {
    let shells = Shells::builtins();
    let Some(completer) = shells.completer(shell.name()) else {
        anyhow::bail!("there is no completion for {}", shell.name());
    };
    let mut script = Vec::new();
    completer.write_registration("COMPLETE", "choreoctl", "choreoctl", "choreoctl", &mut script)?;
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    /// Compares a generated file with the committed one; `SNAPSHOTS=overwrite` writes it.
    fn fresh(path: &Path, content: &[u8]) {
        if std::env::var_os("SNAPSHOTS").is_some_and(|value| value == "overwrite") {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let committed = std::fs::read(path).unwrap_or_default();
        assert!(committed == content, "{} is out of date: run SNAPSHOTS=overwrite cargo test", path.display());
    }

    #[test]
    fn completions_are_fresh() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions");
        for shell in Shell::value_variants() {
            let name = match shell {
                Shell::Bash => "choreoctl.bash",
                Shell::Zsh => "_choreoctl",
                Shell::Fish => "choreoctl.fish",
                Shell::Powershell => "_choreoctl.ps1",
                Shell::Elvish => "choreoctl.elv",
            };
            fresh(&root.join(name), &script(*shell).unwrap());
        }
    }

    #[test]
    fn man_pages_are_fresh() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
        let mut pages = Vec::new();
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        man_pages(&command, "choreoctl", &mut pages);
        for (name, page) in &pages {
            fresh(&root.join(name), page);
        }
        let committed = std::fs::read_dir(&root).unwrap().count();
        assert_eq!(committed, pages.len(), "man/ holds a page of a command that is gone");
    }

    /// The date of this version, as the man pages show it: one that is the same on every machine.
    const DATE: &str = "2026-11-25";

    /// What the exit codes mean, on every page.
    const EXIT_STATUS: [(&str, &str); 6] = [
        ("0", "It is done, or the answer is yes."),
        (
            "1",
            "The answer is no: invalid manifests, an unhealthy plane, a certificate that expires or is not authorized, differences.",
        ),
        ("2", "It could not be done or is not known, or the command line is wrong."),
        ("3", "The named plane does not exist."),
        ("124", "The time ran out."),
        ("130, 143", "It was interrupted by SIGINT, ended by SIGTERM."),
    ];

    /// The sections behind the options: examples out of the help, and the exit codes.
    fn examples_and_exit_status(command: &clap::Command) -> String {
        let mut page = roff::Roff::new();
        let help = command.get_after_help().map(|text| text.ansi().to_string()).unwrap_or_default();
        let examples = help.strip_prefix("Examples:\n").or_else(|| help.strip_prefix("Example:\n"));
        if let Some(examples) = examples {
            page.control("SH", ["EXAMPLES"]).control("nf", []);
            for line in examples.lines() {
                page.text([roff::roman(line.strip_prefix("  ").unwrap_or(line))]);
            }
            page.control("fi", []);
        }
        page.control("SH", ["EXIT STATUS"]);
        for (code, meaning) in EXIT_STATUS {
            page.control("TP", []).text([roff::bold(code)]).text([roff::roman(meaning)]);
        }
        page.render()
    }

    /// What the page of `validate` says of each rule.
    fn rules() -> String {
        let mut page = roff::Roff::new();
        page.control("SH", ["RULES"]);
        for rule in crate::validate::RULES {
            page.control("TP", []);
            let judged = format!(" ({}, {})", rule.severity.name(), rule.judge.name());
            page.text([roff::bold(rule.id), roff::roman(judged)]);
            page.text([roff::roman(format!("{}. {}", rule.about, rule.why))]);
            for (title, example) in [("Invalid example:", rule.bad), ("Valid example:", rule.good)] {
                page.control("IP", []).text([roff::roman(title)]).control("IP", []).control("nf", []);
                let example = crate::render::report::example(example);
                for line in example.lines() {
                    page.text([roff::roman(line)]);
                }
                page.control("fi", []);
            }
        }
        page.render()
    }

    /// What each section begins with that is rendered by itself: how an apostrophe is written.
    const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

    /// Leaves one preamble, and takes out what mandoc warns of in the sections that clap_mangen writes: breaks around an
    /// empty line, and blanks at the ends of lines.
    fn tidy(page: &str) -> String {
        let page = page.replace(PREAMBLE, "").replace("\n.br\n\n.br\n", "\n.sp\n");
        let lines: String = page.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        format!("{PREAMBLE}{lines}")
    }

    fn man_pages(command: &clap::Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) {
        let page = clap_mangen::Man::new(command.clone().name(name.to_owned()))
            .title(name.to_uppercase())
            .section("1")
            .date(DATE)
            .source(format!("choreoctl {}", env!("CARGO_PKG_VERSION")))
            .manual("choreoctl manual");
        let mut text = Vec::new();
        page.render_title(&mut text).unwrap();
        page.render_name_section(&mut text).unwrap();
        page.render_synopsis_section(&mut text).unwrap();
        page.render_description_section(&mut text).unwrap();
        page.render_options_section(&mut text).unwrap();
        if command.has_subcommands() {
            page.render_subcommands_section(&mut text).unwrap();
        }
        text.extend(examples_and_exit_status(command).into_bytes());
        if name == "choreoctl-validate" {
            text.extend(rules().into_bytes());
        }
        pages.push((format!("{name}.1"), tidy(&String::from_utf8(text).unwrap()).into_bytes()));
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            man_pages(below, &format!("{name}-{}", below.get_name()), pages);
        }
    }
}
