//! Restores a backup.
//!
//! All files are written and prepared under temporary names beside their targets. Only then do they get their names. A
//! marker in the data directory exists meanwhile, so that the program does not start with files of both histories after a
//! restore was interrupted.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use service_kit::{
    clock::Clock,
    db::{DatabaseUrl, ExclusiveFile},
};

use super::{
    AUTH_DATABASE, KEYS, REFRESH_SECRET, TASK_DATABASE, WEBHOOK_KEY, archive, database_files, manifest::Manifest,
};
use crate::config::Configs;

/// The marker in the data directory while files are replaced.
const MARKER: &str = "restore.incomplete";

/// The files that SQLite may keep beside a database, by what is appended to its name.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// A file to restore.
struct Target {
    /// The name in the archive.
    name: &'static str,
    path: PathBuf,
    /// The temporary name, beside the path.
    staged: PathBuf,
}

impl Target {
    fn new(name: &'static str, path: &Path) -> Self {
        Self { name, path: path.to_owned(), staged: with_suffix(path, ".restoring") }
    }

    fn is_database(&self) -> bool {
        [AUTH_DATABASE, TASK_DATABASE].contains(&self.name)
    }

    fn remove_staged(&self) {
        for suffix in [""].iter().chain(&COMPANIONS) {
            // Most of them do not exist.
            _ = fs::remove_file(with_suffix(&self.staged, suffix));
        }
    }
}

/// Appends to the name of a file.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Fails if a restore was interrupted while it replaced files.
///
/// # Errors
/// If so.
pub fn check_complete(data_dir: &Path) -> anyhow::Result<()> {
    ensure!(
        !data_dir.join(MARKER).exists(),
        "a restore into {} was interrupted; run `taskey restore` with --replace again",
        data_dir.display()
    );
    Ok(())
}

/// Restores a backup. The caller has locked the data directory. New epochs begin: all users have to log in again, and
/// tokens and etags of the lost history are refused. With `replace`, existing files are kept under other names.
///
/// # Errors
/// If the archive is not usable, is of a newer version, or files exist and must not be replaced. Nothing is changed then.
pub async fn restore(mut configs: Configs, data_dir: &Path, file: &Path, replace: bool) -> anyhow::Result<()> {
    let manifest = archive::verify(file)?;
    let targets = targets(&configs, &manifest)?;
    check_targets(&targets, replace)?;
    targets.iter().for_each(Target::remove_staged);
    let outcome = async {
        stage(file, &targets)?;
        prepare(&mut configs, &targets).await.with_context(|| format!("cannot use {}", file.display()))?;
        publish(data_dir, &targets)
    };
    let outcome = outcome.await;
    targets.iter().for_each(Target::remove_staged);
    outcome?;
    Ok(writeln!(io::stdout(), "restored the {manifest}\nall users have to log in again")?)
}

/// Returns where the files of an archive belong.
fn targets(configs: &Configs, manifest: &Manifest) -> anyhow::Result<Vec<Target>> {
    let [auth, task] = database_files(configs)?;
    let secrets = &configs.auth.secrets;
    let mut targets = vec![
        Target::new(AUTH_DATABASE, auth),
        Target::new(TASK_DATABASE, task),
        Target::new(KEYS, &secrets.keys.key_file),
        Target::new(REFRESH_SECRET, &secrets.refresh_secret_file()),
    ];
    targets.extend(configs.task.webhook_key_file().map(|path| Target::new(WEBHOOK_KEY, &path)));
    targets.retain(|target| manifest.contains(target.name));
    ensure!(targets.len() == manifest.files.len(), "the backup contains files of a newer version of Taskey");
    Ok(targets)
}

fn check_targets(targets: &[Target], replace: bool) -> anyhow::Result<()> {
    for target in targets {
        let exists = target.path.exists() || target.is_database() && with_suffix(&target.path, "-wal").exists();
        if exists && !replace {
            bail!(
                "{} already exists; restore into an empty data directory, or use --replace, which keeps existing files \
                 under other names",
                target.path.display()
            );
        }
        if target.is_database() && target.path.exists() {
            // Fails if a server uses the file. Otherwise, the log is copied into the file and deleted.
            drop(ExclusiveFile::lock(&target.path)?);
        }
    }
    Ok(())
}

/// Writes the files of an archive under their temporary names.
fn stage(file: &Path, targets: &[Target]) -> anyhow::Result<()> {
    let write = |name: &str, content: &mut dyn Read| {
        let target = targets.iter().find(|target| target.name == name).context("it contains an unknown file")?;
        let staged = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target.staged);
        let mut staged = staged.with_context(|| format!("cannot write {}", target.staged.display()))?;
        io::copy(content, &mut staged)?;
        Ok(staged.sync_all()?)
    };
    archive::read(file, write).map(drop)
}

/// Migrates the staged databases, and begins new epochs.
async fn prepare(configs: &mut Configs, targets: &[Target]) -> anyhow::Result<()> {
    let staged = |name| targets.iter().find(|target| target.name == name).map(|target| target.staged.clone());
    let (auth, task) =
        staged(AUTH_DATABASE).zip(staged(TASK_DATABASE)).context("it does not contain both databases")?;
    configs.auth.database.database_url = DatabaseUrl::Sqlite(auth.clone());
    configs.task.database.database_url = DatabaseUrl::Sqlite(task.clone());
    for database in [configs.auth.database.service_database(), configs.task.database.service_database()] {
        let tables = database.status().await?;
        ensure!(tables.newer.is_none(), "the tables of {} are of a newer version of Taskey", database.service);
        database.migrate().await?;
    }
    auth_service::recovery::begin_epoch(&configs.auth.database, &Clock::system()).await?;
    // Nobody is logged in, so other keys can replace those of the backup.
    auth_service::recovery::forget_secrets(&configs.auth.database).await?;
    task_service::recovery::begin_epoch(&configs.task.database).await?;
    for path in [auth, task] {
        drop(ExclusiveFile::lock(&path)?);
    }
    Ok(())
}

/// Gives the staged files their names. Existing files get other names.
fn publish(data_dir: &Path, targets: &[Target]) -> anyhow::Result<()> {
    let marker = data_dir.join(MARKER);
    File::create(&marker)?.sync_all()?;
    sync_folder(&marker)?;
    let kept = format!(".replaced-{}", Clock::system().now().as_seconds());
    for Target { path, staged, .. } in targets {
        let kept = with_suffix(path, &kept);
        for suffix in [""].iter().chain(&COMPANIONS) {
            let existing = with_suffix(path, suffix);
            if existing.exists() {
                fs::rename(&existing, with_suffix(&kept, suffix))?;
            }
        }
        fs::rename(staged, path)?;
        sync_folder(path)?;
    }
    fs::remove_file(&marker)?;
    sync_folder(&marker)
}

fn sync_folder(path: &Path) -> anyhow::Result<()> {
    Ok(File::open(archive::folder_of(path))?.sync_all()?)
}
