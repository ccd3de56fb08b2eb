//! Creates a backup while the program serves.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, ensure};
use service_kit::{
    clock::Clock,
    db::{DatabaseUrl, FileCopy, Migrate, copy_at_one_instant},
    ops::secret_file,
};
use tempfile::TempDir;

use super::{
    AUTH_DATABASE, KEYS, REFRESH_SECRET, TASK_DATABASE, WEBHOOK_KEY,
    archive::{ArchiveWriter, folder_of},
    database_files,
};
use crate::config::Configs;

/// Creates a backup: copies both databases as of one instant, and writes them to an archive. Needs space for the copies
/// beside the archive.
///
/// # Errors
/// If the file exists, a database is not usable or damaged, or the archive cannot be written.
pub async fn create(mut configs: Configs, out: &Path, include_keys: bool) -> anyhow::Result<()> {
    ensure!(!out.exists(), "{} already exists and was not changed", out.display());
    let [auth, task] = database_files(&configs)?.map(Path::to_owned);
    for path in [&auth, &task] {
        ensure!(path.exists(), "there is no database {}", path.display());
    }
    let databases = [configs.auth.database.service_database(), configs.task.database.service_database()];
    for database in databases {
        database.check(Migrate::IfEmpty).await?;
    }
    let (folder, create_time) = (temporary_folder(out)?, Clock::system().now().to_string());
    let copies = [(auth, AUTH_DATABASE), (task, TASK_DATABASE)]
        .map(|(source, name)| FileCopy { source, target: folder.path().join(name) });
    let [auth_copy, task_copy] = copies.clone().map(|copy| DatabaseUrl::Sqlite(copy.target));
    tokio::task::spawn_blocking(move || copy_at_one_instant(&copies)).await??;
    configs.auth.database.database_url = auth_copy;
    configs.task.database.database_url = task_copy;

    let mut archive = ArchiveWriter::new(folder_of(out))?;
    append_databases(&mut archive, &configs, folder.path()).await?;
    if include_keys {
        append_keys(&mut archive, &configs)?;
    }
    let manifest = archive.finish(out, create_time)?;
    Ok(writeln!(io::stdout(), "{manifest}")?)
}

/// Creates a directory for the copies beside the archive, so that they need no space elsewhere.
fn temporary_folder(out: &Path) -> anyhow::Result<TempDir> {
    let folder = folder_of(out);
    let created = tempfile::Builder::new().prefix(".taskey-backup-").tempdir_in(folder);
    created.with_context(|| format!("cannot write to {}", folder.display()))
}

async fn append_databases(archive: &mut ArchiveWriter, configs: &Configs, folder: &Path) -> anyhow::Result<()> {
    let auth_epoch = auth_service::recovery::read_epoch(&configs.auth.database).await?;
    let task_epoch = task_service::recovery::read_epoch(&configs.task.database).await?;
    let auth = (AUTH_DATABASE, configs.auth.database.service_database().status().await?, auth_epoch);
    let task = (TASK_DATABASE, configs.task.database.service_database().status().await?, task_epoch);
    for (name, tables, epoch) in [auth, task] {
        let file = File::open(folder.join(name))?;
        let size = file.metadata()?.len();
        archive.append(name, size, file, Some(tables.version), epoch.map(|epoch| epoch.to_string()))?;
    }
    Ok(())
}

fn append_keys(archive: &mut ArchiveWriter, configs: &Configs) -> anyhow::Result<()> {
    let secrets = &configs.auth.secrets;
    let mut files = vec![(KEYS, secrets.keys.key_file.clone()), (REFRESH_SECRET, secrets.refresh_secret_file())];
    // An earlier version did not create it.
    files.extend(configs.task.webhook_key_file().filter(|path| path.exists()).map(|path| (WEBHOOK_KEY, path)));
    for (name, path) in files {
        let content = secret_file::read(&path)?;
        archive.append(name, content.len() as u64, content.as_bytes(), None, None)?;
    }
    Ok(())
}
