//! The flags of the commands that make no images: `inspect`, `verify`, `prepared`, `setup`.

use std::path::PathBuf;

use clap::Args;
use pocketmuse::Flavour;

use super::values::{one_of, package};

/// The flags of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A checkpoint's or a package's folder, a package's name, or an image that tells its request
    #[arg(value_parser = package())]
    pub path: PathBuf,
    /// Print one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// The flags of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "Prints one line for each tensor. The exit code is 0 only if all hold.")]
pub struct VerifyArgs {
    /// The package's folder, or its name
    #[arg(value_parser = package())]
    pub package: PathBuf,
    /// Reference tensors: inputs and outputs of every stage
    #[arg(long, value_name = "FILE.safetensors")]
    pub golden: PathBuf,
    /// The graphs of the package to run [default: the package's best]
    #[arg(long, value_name = "FLAVOUR", value_parser = one_of(Flavour::ALL, Flavour::name))]
    pub flavour: Option<Flavour>,
    /// Threads to compute with [default: one for each fast core]
    ///
    /// Without it POCKETMUSE_THREADS says how many.
    #[arg(long, value_name = "COUNT", env = "POCKETMUSE_THREADS", hide_env = true)]
    pub threads: Option<usize>,
}

/// The flags of `prepared`.
#[derive(Debug, Args)]
pub struct PreparedArgs {
    /// Remove all of it: packages are checked and optimised again when they are used
    #[arg(long)]
    pub clean: bool,
}

/// The flags of `ls`.
#[derive(Debug, Args)]
#[command(after_help = "A package's folder in $XDG_DATA_HOME/pocketmuse (else \
                        ~/.local/share/pocketmuse) goes by its name: --package NAME. \
                        POCKETMUSE_PACKAGE is the package where none is given.")]
pub struct LsArgs {
    /// Print one JSON object per line on stdout
    #[arg(long)]
    pub json: bool,
}

/// The flags of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pocketmuse completions bash > ~/.local/share/bash-completion/completions/pocketmuse
  pocketmuse completions zsh > ~/.zfunc/_pocketmuse
  pocketmuse completions fish > ~/.config/fish/completions/pocketmuse.fish")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// The flags of `man`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pocketmuse man generate | man -l -
  pocketmuse man -o ~/.local/share/man/man1")]
pub struct ManArgs {
    /// The command whose page is printed [default: the whole program's]
    #[arg(value_name = "COMMAND", conflicts_with = "output")]
    pub command: Option<String>,
    /// Write the pages of all commands to this folder instead
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// The flags of `setup`.
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// Bring it even if it is there
    #[arg(long)]
    pub force: bool,
}
