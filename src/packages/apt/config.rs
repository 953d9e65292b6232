//! nosa's own apt configuration (apt.conf(5), sources.list(5), apt_preferences(5)).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::mirror::Mirrors;
use crate::failure::{Failure, Kind};
use crate::host::{Cmd, fs, tool};
use crate::packages::deb::paragraphs;
use crate::packages::model::{LocalPackage, Supply};
use crate::pipeline::Digest;

/// A repository definition: one deb822 `*.sources` file.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Its id: the file's stem.
    pub id: String,
    /// The file, for messages.
    pub file: String,
    /// The directory that relative `Signed-By` paths start from.
    pub dir: PathBuf,
    /// The text as written, variables and all.
    pub definition: String,
    /// The suites it names.
    pub suites: Vec<String>,
    /// What it may give.
    pub supply: Supply,
}

impl Repository {
    /// Reads a definition.
    pub fn new(id: &str, path: &Path, definition: String, supply: Supply) -> Result<Self> {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let uncommented: String = definition
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| format!("{line}\n"))
            .collect();
        let mut suites = Vec::new();
        for paragraph in paragraphs(&uncommented) {
            for field in ["Types", "URIs", "Suites", "Signed-By"] {
                if paragraph.get(field).is_none() {
                    return Err(Failure::new(
                        Kind::Config,
                        format!("{}: the repository has no {field}", path.display()),
                        format!("add a line `{field}: …` (sources.list(5), deb822 format)"),
                    )
                    .into());
                }
            }
            suites.extend(
                paragraph.get_folded("Suites").unwrap_or_default().split_whitespace().map(str::to_owned),
            );
        }
        let dir = path.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(Self { id: id.to_owned(), file, dir, definition, suites, supply })
    }
}

/// The apt backend for one set of repositories.
#[derive(Debug, Clone)]
pub struct Apt {
    pub(super) dir: PathBuf,
    pub(super) archives: PathBuf,
    pub(super) log: PathBuf,
    pub(super) arch: String,
    pub(super) repositories: Vec<Repository>,
    pub(super) repo_packages: Vec<(String, Vec<String>)>,
    pub(super) overrides: Vec<LocalPackage>,
    mirrors: Mirrors,
}

impl Apt {
    /// Sets the backend up: its state below `state`, downloads in `downloads`, apt's output to `log`.
    pub fn new(
        state: &Path,
        downloads: &Path,
        log: &Path,
        basearch: &str,
        repositories: Vec<Repository>,
        repo_packages: Vec<(String, Vec<String>)>,
        (mirrors, overrides): (Mirrors, Vec<LocalPackage>),
    ) -> Result<Self> {
        let arch = debian_arch(basearch)?.to_owned();
        let mut identity = arch.clone();
        for repository in &repositories {
            let text = mirrors.substitute(&repository.file, &repository.definition)?;
            write!(identity, "\n{}\n{text}", repository.id).context("naming apt's state")?;
        }
        let dir = state.join(Digest::of(identity).short());
        let archives = downloads.join("debs");
        fs::create_dir_all(&archives)?;
        Ok(Self { dir, archives, log: log.to_owned(), arch, repositories, repo_packages, overrides, mirrors })
    }

    pub(super) fn lists(&self) -> PathBuf {
        self.dir.join("lists")
    }

    /// Writes apt's configuration with these preferences.
    pub(super) fn write_config(&self, pins: &[String]) -> Result<()> {
        for sub in ["lists/partial", "none/partial", "sources.list.d", "empty"] {
            fs::create_dir_all(&self.dir.join(sub))?;
        }
        fs::create_dir_all(&self.archives.join("partial"))?;
        fs::write(&self.dir.join("status"), "")?;
        fs::write(&self.dir.join("preferences"), pins.join("\n"))?;
        for repository in &self.repositories {
            let text = self.mirrors.substitute(&repository.file, &repository.definition)?;
            let text = settled(&text, &repository.dir);
            fs::write(&self.dir.join("sources.list.d").join(format!("{}.sources", repository.id)), text)?;
        }
        fs::write(&self.dir.join("apt.conf"), self.apt_conf())
    }

    fn apt_conf(&self) -> String {
        let dir = self.dir.display();
        format!(
            r#"Dir::Etc::main "/dev/null";
Dir::Etc::parts "{dir}/empty";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{dir}/sources.list.d";
Dir::Etc::preferences "{dir}/preferences";
Dir::Etc::preferencesparts "{dir}/empty";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "{dir}/empty";
Dir::Etc::netrc "/dev/null";
Dir::Etc::netrcparts "{dir}/empty";
Dir::State "{dir}";
Dir::State::status "{dir}/status";
Dir::State::lists "{dir}/lists";
Dir::State::extended_states "{dir}/extended_states";
Dir::Cache "{dir}";
Dir::Cache::archives "{archives}/";
Dir::Log "{dir}";
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Acquire::ForceHash "SHA256";
Acquire::Retries "3";
Acquire::http::Timeout "30";
{host_settings}"#,
            archives = self.archives.display(),
            arch = self.arch,
            host_settings = host_settings(),
        )
    }

    /// The package index files of all repositories.
    pub(super) fn index_files(&self) -> Result<Vec<super::index::IndexFile>> {
        let output = Cmd::new(&tool::APT_GET)
            .env("APT_CONFIG", self.dir.join("apt.conf"))
            .args(["indextargets", "--format", "$(FILENAME)|$(SOURCESENTRY)", "Created-By: Packages"])
            .output()?;
        let mut files = Vec::new();
        for line in output.text().lines() {
            let (file, entry) = line.split_once('|').context("reading apt's list of indexes")?;
            // SOURCESENTRY is `path of the .sources file:line`.
            let source = entry.rsplit_once(':').map_or(entry, |(path, _)| path);
            let id = Path::new(source).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let restricted = self.repositories.iter().any(|repo| repo.id == id && repo.supply != Supply::All);
            files.push(super::index::IndexFile { path: file.into(), repo: id, restricted });
        }
        Ok(files)
    }
}

/// Debian's name of an architecture.
fn debian_arch(basearch: &str) -> Result<&'static str> {
    match basearch {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => Err(Failure::new(
            Kind::Config,
            format!("nosa builds Debian for x86_64 and aarch64, not for {other}"),
            "build on one of these",
        )
        .into()),
    }
}

/// Makes `Signed-By: keys/x.gpg` an absolute path beside the definition, and `file:` addresses `copy:`
/// ones: apt reads an index behind `file:` in place, so that what it offers could change unasked.
fn settled(text: &str, dir: &Path) -> String {
    let mut out = String::new();
    for line in text.lines() {
        match line.strip_prefix("Signed-By:").map(str::trim) {
            Some(path) if !path.is_empty() && !path.starts_with('/') && !path.starts_with('-') => {
                let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
                out.push_str(&format!("Signed-By: {}\n", dir.join(path).display()));
            }
            _ if line.starts_with("URIs:") => {
                let words = line.split_whitespace().map(|word| match word.strip_prefix("file:") {
                    Some(rest) => format!("copy:{rest}"),
                    None => word.to_owned(),
                });
                out.push_str(&words.collect::<Vec<_>>().join(" "));
                out.push('\n');
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

/// The host's own settings for reaching and dating archives: its proxies, and whether it accepts an
/// index past its `Valid-Until` (a host with a frozen mirror says so in its apt.conf).
fn host_settings() -> String {
    let printed =
        Cmd::program("apt-config").args(["dump"]).output().map(|output| output.text()).unwrap_or_default();
    printed.lines().filter(|line| is_host_affair(line)).map(|line| format!("{line}\n")).collect()
}

fn is_host_affair(line: &str) -> bool {
    let proxy = line.starts_with("Acquire::http") && line.contains("Proxy") && !line.contains("\"\"");
    proxy || line.starts_with("Acquire::Check-Valid-Until")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_without_a_key_is_refused() {
        let text = "# comment\nTypes: deb\nURIs: x\nSuites: a b\nComponents: main\n";
        let error = Repository::new("r", Path::new("/c/r.sources"), text.into(), Supply::All).unwrap_err();
        assert_eq!(error.to_string(), "/c/r.sources: the repository has no Signed-By");
        let text = format!("{text}Signed-By: k.gpg\n");
        let repository = Repository::new("r", Path::new("/c/r.sources"), text, Supply::All).unwrap();
        assert_eq!(repository.suites, ["a", "b"]);
        assert!(is_host_affair("Acquire::http::Proxy \"http://p:1/\";"));
        assert!(is_host_affair("Acquire::Check-Valid-Until \"false\";"));
        assert!(!is_host_affair("APT::Get::AllowUnauthenticated \"true\";"));
        assert!(settled(&repository.definition, Path::new("/c")).contains("Signed-By: /c/k.gpg"));
        assert_eq!(settled("URIs: file:/m http://x\n", Path::new("/c")), "URIs: copy:/m http://x\n");
    }
}
